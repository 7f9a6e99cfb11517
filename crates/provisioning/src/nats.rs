//! The broker's accounts, by NATS's own decentralised authentication (section 10): an authority signs the accounts, the accounts'
//! signing keys sign the users, and the broker has to be told of no user. Only issuing is here; the broker verifies.

mod account;
mod accounts;
mod authority;
mod file;
mod jwt;
mod login;
#[cfg(test)]
mod tests;
mod update;
mod user;

pub(crate) use accounts::Accounts;
pub(crate) use login::{LoginFiles, read_jwt};
pub(crate) use update::login_stands;
pub use update::{AccountError, AccountKeeper, RevokedLogin, revoked_logins};
pub(crate) use user::{User, UserRole};
