//! `resources`: a short way to write the rules of something that is read and written under one id.
//!
//! Each read becomes a cache rule and each write a purge rule, before anything is checked; so whatever is wrong with them is
//! told as for any other rule, at the place where it is written.
//!
//! ```text
//! resources:                                     - name: user-orders
//!   user:                                          match: { path: "/users/{user_id}/orders" }
//!     id: user_id                                  cache: { key: "user:{user_id}:orders", tags: ["user:{user_id}"] }
//!     reads:                                →    - name: user-list
//!       orders: { path: … }                        match: { path: /users }
//!       list: { path: /users }                     cache: { key: "user:list", tags: [user] }
//!     writes:                                    - name: user-write-1
//!       - { path: "/users/{user_id}" }             match: { path: "/users/{user_id}" }
//!                                                  purge: { tags: ["user:{user_id}", user] }
//! ```

use std::borrow::Cow;

use routecache_core::path::PathTemplate;

use crate::tree::{Entry, Kind, Node, Span};
use crate::vocabulary::{RESOURCE, RESOURCE_WRITE};
use crate::walk::{At, Fields, Found};

/// The file with rules in place of its resources.
pub(crate) fn expanded<'n>(root: &'n Node, found: &mut Found) -> Cow<'n, Node> {
    let Kind::Map(entries) = &root.kind else { return Cow::Borrowed(root) };
    if !entries.iter().any(|entry| entry.name == "resources") {
        return Cow::Borrowed(root);
    }
    let mut routes = Vec::new();
    for at in At::root(root).entries(&mut Found::default()).unwrap_or_default() {
        if at.name == "resources" {
            for resource in at.entries_in_order(found).unwrap_or_default() {
                expand(&resource, &mut routes, found);
            }
        }
    }
    let mut entries: Vec<Entry> = entries.iter().filter(|entry| entry.name != "resources").cloned().collect();
    match entries.iter_mut().find(|entry| entry.name == "routes").map(|entry| &mut entry.value.kind) {
        Some(Kind::List(written)) if !written.is_empty() => written.append(&mut routes),
        Some(_) => {} // which is told, as without resources
        None => entries.push(Entry {
            name: "routes".to_owned(),
            span: None,
            value: Node { kind: Kind::List(routes), span: root.span },
        }),
    }
    Cow::Owned(Node { kind: Kind::Map(entries), span: root.span })
}

/// What a resource says for all its rules.
struct Resource<'a> {
    name: &'a str,
    id: &'a str,
    host: Option<&'a Node>,
    ttl: Option<&'a Node>,
}

fn expand(at: &At<'_>, routes: &mut Vec<Node>, found: &mut Found) {
    let Some(fields) = at.fields(&RESOURCE, found) else { return };
    let Some(id) = fields.need("id", "id: user_id", found).and_then(|at| at.text(found)) else { return };
    let node = |name: &str| fields.get(name).map(|at| at.node);
    let resource = Resource { name: at.name, id, host: node("host"), ttl: node("ttl") };
    for read in fields.get("reads").and_then(|at| at.entries_in_order(found)).unwrap_or_default() {
        routes.extend(resource.read(&read, found));
    }
    for (number, write) in fields.get("writes").and_then(|at| at.items(found)).unwrap_or_default().iter().enumerate() {
        if let Some(fields) = write.fields(&RESOURCE_WRITE, found) {
            let more = fields.get("tags").and_then(|at| at.items(found)).unwrap_or_default();
            let more: Vec<Node> = more.into_iter().map(|at| at.node.clone()).collect();
            routes.push(resource.write(write, number.saturating_add(1), &fields, more));
        }
    }
}

impl Resource<'_> {
    fn read(&self, at: &At<'_>, found: &mut Found) -> Option<Node> {
        let span = at.node.span;
        let mut cache = Vec::new();
        let (mut suffix, mut tags) = (at.name, Vec::new());
        let entries = at.entries(found)?;
        for entry in &entries {
            match (entry.name, &entry.node.kind) {
                ("path" | "methods", _) => {}
                ("suffix", Kind::Text(text)) => suffix = text,
                ("tags", Kind::List(more)) => tags.clone_from(more),
                _ => cache.push(self::entry(entry.name, entry.node.clone(), entry.name_span())),
            }
        }
        let given = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.node);
        let captures = captures(given("path"));
        if given("key").is_none() {
            let others = captures.iter().filter(|name| *name != self.id).map(|name| format!(":{{{name}}}"));
            let own =
                if captures.iter().any(|name| name == self.id) { format!(":{{{}}}", self.id) } else { String::new() };
            let key = format!("{}{own}:{suffix}{}", self.name, others.collect::<String>());
            cache.push(entry("key", text(key, span), span));
        }
        if given("ttl").is_none() {
            cache.extend(self.ttl.map(|ttl| entry("ttl", ttl.clone(), ttl.span)));
        }
        tags.insert(0, text(self.tag(&captures).unwrap_or_else(|| self.name.to_owned()), span));
        cache.push(entry("tags", Node { kind: Kind::List(tags), span }, span));
        let matching = self.matching(span, given("path"), given("methods"));
        Some(self.rule(
            at.name,
            at.name_span(),
            matching,
            entry("cache", Node { kind: Kind::Map(cache), span }, span),
            span,
        ))
    }

    fn write(&self, at: &At<'_>, number: usize, fields: &Fields<'_>, more: Vec<Node>) -> Node {
        let span = at.node.span;
        let node = |name: &str| fields.get(name).map(|at| at.node);
        let captures = captures(node("path"));
        // Whatever is written, lists of such things may hold it.
        let mut tags: Vec<Node> = self.tag(&captures).into_iter().map(|tag| text(tag, span)).collect();
        tags.push(text(self.name.to_owned(), span));
        tags.extend(more);
        let purge = Node { kind: Kind::Map(vec![entry("tags", Node { kind: Kind::List(tags), span }, span)]), span };
        let matching = self.matching(span, node("path"), node("methods"));
        self.rule(&format!("write-{number}"), span, matching, entry("purge", purge, span), span)
    }

    /// The tag of one such thing, where the path says which.
    fn tag(&self, captures: &[String]) -> Option<String> {
        captures.iter().any(|name| name == self.id).then(|| format!("{}:{{{}}}", self.name, self.id))
    }

    fn matching(&self, span: Option<Span>, path: Option<&Node>, methods: Option<&Node>) -> Node {
        let fields = [("path", path), ("methods", methods), ("host", self.host)];
        let given = fields.into_iter().filter_map(|(name, node)| node.map(|node| entry(name, node.clone(), node.span)));
        Node { kind: Kind::Map(given.collect()), span }
    }

    fn rule(&self, name: &str, name_span: Option<Span>, matching: Node, action: Entry, span: Option<Span>) -> Node {
        let name = text(format!("{}-{name}", self.name), name_span);
        let fields = vec![entry("name", name, name_span), entry("match", matching, span), action];
        Node { kind: Kind::Map(fields), span }
    }
}

/// The captures of a path; none where it is no path, which is told elsewhere.
fn captures(path: Option<&Node>) -> Vec<String> {
    let Some(Kind::Text(path)) = path.map(|node| &node.kind) else { return Vec::new() };
    let path = PathTemplate::parse(path);
    path.map(|path| path.captures().iter().map(|capture| capture.name.clone()).collect()).unwrap_or_default()
}

fn text(text: String, span: Option<Span>) -> Node {
    Node { kind: Kind::Text(text), span }
}

fn entry(name: &str, value: Node, span: Option<Span>) -> Entry {
    Entry { name: name.to_owned(), span, value }
}
