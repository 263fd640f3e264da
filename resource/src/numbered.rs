//! Shared code of `#[text_enum]` and `#[text_flags]`: numbers on the wire, words in YAML.

use crate::yaml::YamlError;

/// A type that is a number on the wire.
pub trait Numbered: Sized {
    /// The number.
    fn to_number(&self) -> i64;
    /// The value with this number; every number has one.
    fn of_number(number: i64) -> Self;
}

/// The number in `Type(7)` or `7`.
///
/// # Errors
/// When the text is neither; the error lists the words that would have been.
pub fn number_in_parentheses(text: &str, type_: &str, words: &[&str]) -> Result<i64, YamlError> {
    let inner = text.strip_prefix(type_).and_then(|rest| rest.strip_prefix('(')).and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(text).parse().map_err(|_| YamlError::new(format!("{text:?} is no {type_}: expected one of {}", words.join(", "))))
}

/// The words of the bits that are set, joined by commas; bits without a word as one hexadecimal number.
#[must_use]
pub fn flag_words(bits: u32, words: &[(u32, &str)]) -> String {
    let mut set: Vec<String> = words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| (*word).to_owned()).collect();
    let unnamed = words.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if unnamed != 0 {
        set.push(format!("{unnamed:#x}"));
    }
    set.join(",")
}

/// The bits of words joined by commas (or bars, as some write them).
///
/// # Errors
/// When a word is unknown; the error lists those that are known.
pub fn flags_of_words(text: &str, type_: &str, words: &[(u32, &str)]) -> Result<u32, YamlError> {
    let bit = |word: &str| {
        let named = words.iter().find(|(_, known)| *known == word).map(|(bit, _)| *bit);
        let number = || word.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        named.or_else(number).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
            YamlError::new(format!("{word:?} is no flag of {type_}: expected some of {}", known.join(", ")))
        })
    };
    text.split([',', '|']).map(str::trim).filter(|word| !word.is_empty()).try_fold(0, |bits, word| Ok(bits | bit(word)?))
}

/// Implements `Field` for a [`Numbered`] type that has `Display` and `FromStr`.
#[doc(hidden)]
#[macro_export]
macro_rules! __numbered_field {
    ($type:ty) => {
        impl $crate::Field for $type {
            const PACKING: $crate::Packing = $crate::Packing::Varints;
            fn put(&self, number: u32, out: &mut ::std::vec::Vec<u8>) {
                $crate::Field::put(&$crate::__private::Numbered::to_number(self), number, out);
            }
            fn put_packed(&self, out: &mut ::std::vec::Vec<u8>) {
                $crate::Field::put_packed(&$crate::__private::Numbered::to_number(self), out);
            }
            fn take(wire: $crate::proto::Wire<'_>) -> ::std::result::Result<Self, $crate::proto::DecodeError> {
                <i64 as $crate::Field>::take(wire).map($crate::__private::Numbered::of_number)
            }
            fn is_default(&self) -> bool {
                $crate::__private::Numbered::to_number(self) == 0
            }
            fn write_yaml(&self, _form: $crate::Form) -> $crate::yaml::Node {
                $crate::yaml::Node::Str(::std::string::ToString::to_string(self))
            }
            fn read_yaml(node: &$crate::yaml::Node) -> ::std::result::Result<Self, $crate::yaml::YamlError> {
                match node.as_text() {
                    Some(text) => text.parse(),
                    None => Err($crate::yaml::YamlError::expected("a word", node)),
                }
            }
        }
    };
}
