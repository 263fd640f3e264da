//! `meta`: the small values that outlive an installation. Container nodes have none, and say so.

use api::machine as pb;
use clap::{Args, Subcommand};

use crate::session::Session;

/// Write and delete META values.
#[derive(Debug, Args)]
pub struct Meta {
    /// Talk to a node in maintenance mode.
    #[arg(long, short, global = true)]
    insecure: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a value.
    Write {
        /// Its key: 10 or 0x0a.
        #[arg(value_parser = key)]
        key: u8,
        /// The value.
        value: String,
    },
    /// Delete a value.
    Delete {
        /// Its key: 10 or 0x0a.
        #[arg(value_parser = key)]
        key: u8,
    },
}

fn key(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u8::from_str_radix(digits, 16));
    number.map_err(|_| "expected a number from 0 to 255, such as 10 or 0x0a".to_owned())
}

impl Meta {
    /// Asks each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        session
            .each(self.insecure, async |node| {
                let mut machine = node.client.machine();
                match &self.command {
                    Command::Write { key, value } => {
                        let request = pb::MetaWriteRequest { key: (*key).into(), value: value.clone().into_bytes() };
                        machine.meta_write(request).await.map(drop)?;
                    }
                    Command::Delete { key } => {
                        machine.meta_delete(pb::MetaDeleteRequest { key: (*key).into() }).await.map(drop)?;
                    }
                }
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes_in_two_notations() {
        assert_eq!((key("10"), key("0x0a"), key("255")), (Ok(10), Ok(10), Ok(255)));
        for bad in ["256", "0x100", "ten", "-1", ""] {
            assert!(key(bad).unwrap_err().contains("0 to 255"), "{bad}");
        }
    }
}
