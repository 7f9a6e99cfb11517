//! Key files (section 7): what lies where below the keys folder, and how it is opened so that a file that somebody else
//! can read or replace is refused.

mod file;
mod folder;
mod login;
mod member;
mod trust;

pub use file::{
    Fault, KeyFileError, create_secret, read_key, read_own, read_public, read_secret, refuse_exposed, replace_key,
    replace_public, replace_secret, shell_word,
};
pub use folder::{FolderKind, FolderLock, KeyFolder, LOCK_WAIT};
pub use login::{Login, MAX_USER_JWT, UserJwt, claims_in, creds_text};
pub use member::{Member, MemberFiles, Seed, load_member};
pub use trust::{accepted_after, keep_trust, load_pin, load_trust};
