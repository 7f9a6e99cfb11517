//! The file that nats.conf includes: who signs the accounts, and the accounts as they are when the broker starts first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const HEAD: &str = "\
# The broker's accounts, signed; no secrets. Made by `countersign init`. Users are not listed here: whoever has a JWT that one
# of the accounts' signing keys has signed may connect. A newer account that the broker was given over the bus outlives this one.
";

/// The longest such file, in bytes.
pub(super) const MAX_FILE: usize = 1_048_576;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AccountsFile {
    /// The JWT of the authority.
    pub(super) authority: String,
    /// The system account.
    pub(super) system: String,
    /// The JWTs of the accounts, by account.
    pub(super) accounts: BTreeMap<String, String>,
}

impl AccountsFile {
    pub(super) fn text(&self) -> String {
        let mut text =
            format!("{HEAD}operator: {}\nsystem_account: {}\nresolver_preload: {{\n", self.authority, self.system);
        for (id, jwt) in &self.accounts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {id}: {jwt}");
        }
        text.push_str("}\n");
        text
    }

    /// Reads what [`Self::text`] wrote; what else is in it is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut file = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.trim().split_once(": ")) {
            match name {
                "operator" => file.authority = value.to_owned(),
                "system_account" => file.system = value.to_owned(),
                id if id.starts_with('A') => {
                    file.accounts.insert(id.to_owned(), value.to_owned());
                }
                _ => {}
            }
        }
        file
    }
}
