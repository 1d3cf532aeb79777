//! Users and their orders.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Answer;

#[derive(Debug)]
pub(super) struct Users(BTreeMap<u64, User>);

#[derive(Debug)]
struct User {
    name: String,
    /// Counts the changes, so that an answer shows which state it tells of.
    version: u64,
    orders: Vec<Value>,
}

impl Users {
    pub(super) fn three() -> Self {
        let user = |(id, name): (u64, &str)| {
            let orders = (1..=3).map(|nth| json!({ "id": id * 100 + nth, "item": format!("item {nth}") })).collect();
            (id, User { name: name.into(), version: 1, orders })
        };
        Self([(1, "Ada"), (2, "Grace"), (12, "Edsger")].map(user).into())
    }

    /// Carries a call out and says what came of it.
    pub(super) fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Answer {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let id = segments.get(1).and_then(|id| id.parse().ok());
        let answer = match (method.as_str(), segments.as_slice(), id) {
            ("GET" | "HEAD", ["users"], _) => Some(self.list()),
            ("GET" | "HEAD", ["users", _], Some(id)) => self.read(id),
            ("GET" | "HEAD", ["users", _, "orders"], Some(id)) => self.orders(id, query),
            ("PUT" | "PATCH", ["users", _], Some(id)) => self.change(id, body),
            ("DELETE", ["users", _], Some(id)) => self.0.remove(&id).map(|_| Answer::empty(StatusCode::NO_CONTENT)),
            ("POST", ["users", _, "orders"], Some(id)) => self.order(id, body),
            _ => None,
        };
        answer.unwrap_or_else(|| Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "there is nothing here" })))
    }

    fn list(&self) -> Answer {
        let users: Vec<Value> = self.0.iter().map(|(id, user)| json!({ "id": id, "name": user.name })).collect();
        Answer::json(StatusCode::OK, &json!(users))
    }

    fn read(&self, id: u64) -> Option<Answer> {
        Some(Answer::json(StatusCode::OK, &self.0.get(&id)?.document(id)))
    }

    fn orders(&self, id: u64, query: &str) -> Option<Answer> {
        let user = self.0.get(&id)?;
        let number = |name: &str, default: usize| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok());
            value.unwrap_or(default).max(1)
        };
        let (page, size) = (number("page", 1), number("size", 10));
        let orders: Vec<&Value> = user.orders.iter().skip((page - 1).saturating_mul(size)).take(size).collect();
        let list = json!({ "user": id, "version": user.version, "page": page, "items": orders });
        Some(Answer::json(StatusCode::OK, &list))
    }

    fn change(&mut self, id: u64, body: &Value) -> Option<Answer> {
        let user = self.0.get_mut(&id)?;
        if let Some(name) = body.get("name").and_then(Value::as_str) {
            name.clone_into(&mut user.name);
        }
        user.version += 1;
        Some(Answer::json(StatusCode::OK, &user.document(id)))
    }

    fn order(&mut self, id: u64, body: &Value) -> Option<Answer> {
        let user = self.0.get_mut(&id)?;
        let item = body.get("item").and_then(Value::as_str).unwrap_or("something");
        let order = json!({ "id": id * 100 + user.orders.len() as u64 + 1, "item": item });
        user.orders.push(order.clone());
        user.version += 1;
        Some(Answer::json(StatusCode::CREATED, &order))
    }
}

impl User {
    fn document(&self, id: u64) -> Value {
        json!({ "id": id, "name": self.name, "version": self.version })
    }
}
