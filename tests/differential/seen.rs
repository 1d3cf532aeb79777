//! What was seen of a case, in a form that can be compared.

use super::http1::Message;

/// Fields whose values nobody can foresee.
const ANY_VALUE: [&str; 4] =
    ["date", "x-request-id", "x-envoy-upstream-service-time", "x-envoy-expected-rq-timeout-ms"];

/// Fields of the connection, which HTTP/1 codecs write for themselves, and one of the router's: host-test has neither.
const NOT_OURS: [&str; 4] = ["connection", "transfer-encoding", "host", "x-envoy-expected-rq-timeout-ms"];

/// What came of a case, on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the filter said in a worker, in order.
    pub said: Vec<String>,
    pub answer: Exchange,
    /// What the origin heard.
    pub forwarded: Vec<Exchange>,
    /// What the gRPC server heard, with all messages of a stream as its body.
    pub talked: Vec<Exchange>,
}

impl Seen {
    pub fn new(said: Vec<String>, answer: Exchange, heard: &[Message], talked: &[Message]) -> Self {
        let ours = |line: &String| !line.split_once(':').is_some_and(|(name, _)| NOT_OURS[3..].contains(&name));
        let said = said.into_iter().filter(ours).map(masked).collect();
        let exchanges = |messages: &[Message]| messages.iter().map(Exchange::of).collect();
        Self { said, answer, forwarded: exchanges(heard), talked: exchanges(talked) }
    }

    /// Line by line, for a difference that can be read.
    pub fn lines(&self) -> Vec<String> {
        let said = self.said.iter().map(|line| format!("said     {line}"));
        let answer = self.answer.lines().map(|line| format!("answer   {line}"));
        let forwarded = self.forwarded.iter().flat_map(Exchange::lines).map(|line| format!("forward  {line}"));
        let talked = self.talked.iter().flat_map(Exchange::lines).map(|line| format!("talk     {line}"));
        said.chain(answer).chain(forwarded).chain(talked).collect()
    }
}

/// A line of log that tells such a field, with its value hidden.
fn masked(line: String) -> String {
    match line.split_once(':') {
        Some((name, _)) if ANY_VALUE.contains(&name) => format!("{name}:*"),
        _ => line,
    }
}

/// A message without what chance and the codec decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange(Vec<String>);

impl Exchange {
    pub fn of(message: &Message) -> Self {
        let mut words = message.start.split(' ');
        let start = match words.next() {
            Some("HTTP/1.1") => words.next().unwrap_or_default().to_owned(),
            Some("") | None => "nothing".to_owned(),
            Some(method) => format!("{method} {}", words.next().unwrap_or_default()),
        };
        // An answer without a body says `content-length: 0` in the codec's own words.
        let field = |(name, value): &(String, String)| {
            let hidden = NOT_OURS.contains(&name.as_str()) || (name == "content-length" && value == "0");
            (!hidden).then(|| masked(format!("{name}:{value}")))
        };
        let mut fields: Vec<String> = message.headers.iter().filter_map(field).collect();
        fields.sort();
        let body = format!("body {:?}", String::from_utf8_lossy(&message.body));
        let end = if message.whole { "whole" } else { "cut" };
        let trailers = message.trailers.iter().map(|(name, value)| format!("trailer {name}:{value}"));
        let all = [start].into_iter().chain(fields).chain([body]).chain(trailers).chain([end.to_owned()]);
        Self(all.collect())
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
