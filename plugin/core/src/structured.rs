//! Dictionaries and Lists of structured fields (RFC 9651 §3.1 and §3.2), as far as the fields that we read go.

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

/// What stands in a List, or behind a key; its parameters mean nothing to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Member {
    Flag(bool),
    Integer(i64),
    Text(String),
    /// An inner list of strings alone.
    Strings(Vec<String>),
    Other,
}

/// The members of a Dictionary, of equal keys the last one (§4.2.2); `None` when it isn't one.
pub(crate) fn dictionary(value: &[u8]) -> Option<Vec<(&str, Member)>> {
    Parser::new(value).parse_dictionary_with_visitor(Members::default()).ok()
}

/// The members of a List; `None` when it isn't one.
pub(crate) fn list(value: &[u8]) -> Option<Vec<Member>> {
    Parser::new(value).parse_list_with_visitor(Listing::default()).ok()
}

#[derive(Default)]
struct Members<'de>(Vec<(&'de str, Member)>);

impl<'de> DictionaryVisitor<'de> for Members<'de> {
    type Out = Vec<(&'de str, Member)>;
    type Error = std::convert::Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Self::Error> {
        self.0.retain(|(known, _)| *known != key.as_str());
        self.0.push((key.as_str(), Member::Other));
        Ok(Place(self.0.last_mut().map(|(_, member)| member)))
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self.0)
    }
}

#[derive(Default)]
struct Listing(Vec<Member>);

impl<'de> ListVisitor<'de> for Listing {
    type Out = Vec<Member>;
    type Error = std::convert::Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Self::Error> {
        self.0.push(Member::Other);
        Ok(Place(self.0.last_mut()))
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self.0)
    }
}

/// Where a member goes.
struct Place<'v>(Option<&'v mut Member>);

impl<'de> EntryVisitor<'de> for Place<'_> {
    type Error = std::convert::Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(self)
    }

    fn inner_list(mut self) -> Result<impl InnerListVisitor<'de>, Self::Error> {
        if let Some(place) = &mut self.0 {
            **place = Member::Strings(Vec::new());
        }
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for Place<'_> {
    type Error = std::convert::Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(Listed(self.0.as_deref_mut()))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Self::Error> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Place<'_> {
    type Out = ();
    type Error = std::convert::Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        let member = match item {
            BareItemFromInput::Boolean(flag) => Member::Flag(flag),
            BareItemFromInput::Integer(number) => Member::Integer(number.into()),
            BareItemFromInput::String(text) => Member::Text(text.as_str().to_owned()),
            _ => Member::Other,
        };
        if let Some(place) = self.0 {
            *place = member;
        }
        Ok(Ignored)
    }
}

/// The list that an item belongs to.
struct Listed<'v>(Option<&'v mut Member>);

impl<'de> ItemVisitor<'de> for Listed<'_> {
    type Out = ();
    type Error = std::convert::Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        match (self.0, item) {
            (Some(Member::Strings(strings)), BareItemFromInput::String(text)) => strings.push(text.as_str().to_owned()),
            (Some(list), _) => *list = Member::Other,
            (None, _) => {}
        }
        Ok(Ignored)
    }
}
