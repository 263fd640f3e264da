//! What a reconcile may fail with: any error, with the chain of its causes.

use std::fmt;

/// A controller's failure. Any error becomes one with `?`; a sentence does with [`Error::msg`].
///
/// Like other catch-all error types it is not itself a [`std::error::Error`], so that every error can turn into it.
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

impl Error {
    /// A failure that is best told in a sentence: what was found, what was expected, what to do.
    pub fn msg(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// The error inside, for those who look for a certain one.
    pub fn inner(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }

    /// The same failure with what was being done, in front.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self::msg(format!("{doing}: {self}"))
    }
}

/// Adds what was being done to a failure.
pub trait ResultExt<T> {
    /// The same result; its error says first what was being done.
    ///
    /// # Errors
    /// When `self` is one.
    fn context(self, doing: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|e| e.into().context(doing))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Error {
    /// The error and its causes, each once, separated by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading {file}")]
    struct Outer {
        file: &'static str,
        source: std::num::ParseIntError,
    }

    #[test]
    fn the_chain_is_told_once() {
        let source = "x".parse::<u8>().unwrap_err();
        let error = Error::from(Outer { file: "/a", source });
        assert_eq!(error.to_string(), "reading /a: invalid digit found in string");
        let wrapped: Result<(), Error> = Err::<(), _>(error).context("merging host names");
        assert_eq!(wrapped.unwrap_err().to_string(), "merging host names: reading /a: invalid digit found in string");
    }
}
