//! What an author reads when a declaration is wrong.

#[test]
fn wrong_declarations_say_what_was_expected() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
