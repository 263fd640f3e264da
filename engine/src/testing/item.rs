//! A kind for tests.

use resource::resource;

/// A small kind that means nothing.
#[resource(type = "ConformanceItems.test.orlop.dev", namespace = "test", columns("Text" = "{.text}", "Number" = "{.number}"))]
#[derive(Eq)]
pub struct Item {
    /// A text.
    #[field(1)]
    pub text: String,
    /// A number.
    #[field(2)]
    pub number: u64,
}

impl Item {
    /// An item of both.
    #[must_use]
    pub fn new(text: impl Into<String>, number: u64) -> Self {
        Self { text: text.into(), number }
    }
}
