//! Templates that the checker has found right, as text and places for values: enough to tell which of them can mean the same.

/// A template, apart from what is done to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece<'a> {
    Char(char),
    /// Where the value comes from, such as `user_id`.
    Value(&'a str),
}

/// Takes a template apart that the checker has found right.
pub(crate) fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(char) = rest.chars().next() {
        let doubled = rest.starts_with("{{") || rest.starts_with("}}");
        let value = rest.strip_prefix('{').filter(|_| !doubled).and_then(|rest| rest.split_once('}'));
        rest = match value {
            Some((inside, after)) => {
                pieces.push(Piece::Value(inside.split(['|', ':']).next().unwrap_or_default().trim()));
                after
            }
            None => {
                pieces.push(Piece::Char(char));
                rest.get(char.len_utf8().saturating_add(usize::from(doubled))..).unwrap_or_default()
            }
        };
    }
    pieces
}

/// The values, by the names of their sources, with which a template is filled to a text; `None` if none do.
#[must_use]
pub fn values_in<'t>(template: &'t str, text: &'t str) -> Option<Vec<(&'t str, &'t str)>> {
    let pieces = pieces(template);
    let mut values = Vec::new();
    let mut rest = text;
    let mut left = pieces.iter();
    while let Some(piece) = left.next() {
        match piece {
            Piece::Char(char) => rest = rest.strip_prefix(*char)?,
            Piece::Value(name) => {
                // What follows a value never stands inside it: it is escaped there.
                let end = match left.as_slice().first() {
                    Some(Piece::Char(stop)) => rest.find(*stop)?,
                    _ => rest.len(),
                };
                let (value, after) = rest.split_at_checked(end).filter(|(value, _)| !value.is_empty())?;
                values.push((*name, value));
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(values)
}

/// Whether two templates can be filled to one text. A value is at least one character, and may be any.
pub(crate) fn may_be_equal(one: &[Piece<'_>], other: &[Piece<'_>]) -> bool {
    let begins = |pieces: &[Piece<'_>]| if let Some(Piece::Char(char)) = pieces.first() { Some(*char) } else { None };
    if let (Some(a), Some(b)) = (begins(one), begins(other))
        && a != b
    {
        return false;
    }
    // `row[j]`: whether the templates up to here can be equal, where a value may have begun and may go on.
    let mut row = vec![false; other.len().saturating_add(1)];
    if let Some(start) = row.first_mut() {
        *start = true;
    }
    for a in one {
        let mut next = vec![false; row.len()];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[bool], j: usize| row.get(j).copied().unwrap_or(false);
            let after = j.saturating_add(1);
            let reached = match (a, b) {
                (Piece::Char(a), Piece::Char(b)) => a == b && at(&row, j),
                // A value takes one more of the other's pieces, or begins with this one.
                (Piece::Value(_), Piece::Char(_)) => at(&row, j) || at(&next, j),
                (Piece::Char(_), Piece::Value(_)) => at(&row, j) || at(&row, after),
                (Piece::Value(_), Piece::Value(_)) => at(&row, j) || at(&next, j) || at(&row, after),
            };
            if let Some(cell) = next.get_mut(after) {
                *cell = reached;
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_equal_where_values_can_make_them_so() {
        for (one, other, equal) in [
            ("user:{a}", "user:{b}", true),
            ("user:{a}", "user:me", true),
            ("user:{a}", "users", false),
            ("user:{a}", "user:", false),
            ("{a}:list", "user:{b}", true),
            ("{a}", "anything:{b}:x", true),
            ("a{x}c", "a{y}bc", true),
            ("a{x}c", "a{y}d", false),
            ("a", "b", false),
            ("{{a}}", "{{a}}", true),
            ("user:{a|default(1)}:{b}", "user:{c}:x", true),
        ] {
            assert_eq!(may_be_equal(&pieces(one), &pieces(other)), equal, "{one} {other}");
            assert_eq!(may_be_equal(&pieces(other), &pieces(one)), equal, "{other} {one}");
        }
    }

    #[test]
    fn a_text_tells_the_values_that_made_it() {
        assert_eq!(
            values_in("user:{id}:orders:{query.page|default(1)}", "user:7:orders:2"),
            Some(vec![("id", "7"), ("query.page", "2")])
        );
        assert_eq!(values_in("{{a}}", "{a}"), Some(vec![]));
        for (template, text) in [("user:{id}", "user:"), ("user:{id}", "order:7"), ("users", "user"), ("{a}-x", "1-y")]
        {
            assert_eq!(values_in(template, text), None, "{template} {text}");
        }
    }
}
