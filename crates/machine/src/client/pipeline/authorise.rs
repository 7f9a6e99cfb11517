//! May its operator give this command to this client? (Section 9, row 9: the grant's reach, then its commands.)

use countersign_protocol::command::{Command, Target};
use countersign_protocol::envelope::Reason;

use super::address::{Addressed, LocalIdentity};
use crate::client::refusal::{Refusal, Rejection};

/// An addressed command whose operator may give it to this client.
pub(super) struct Authorised(Addressed);

pub(super) fn authorise(addressed: Addressed, local: &LocalIdentity<'_>) -> Result<Authorised, Rejection> {
    let Command { to, from, command, .. } = addressed.message();
    let grant = addressed.credential().grant();
    if !grant.is_some_and(|grant| grant.reaches(local.name, local.groups)) {
        return Err(match to {
            Target::Client(_) => addressed.refuse(Refusal::OutOfReach),
            Target::Group(_) | Target::All(_) => {
                Rejection::drop(Reason::OutOfReach, from, "only among others, and out of reach")
            }
        });
    }
    if !grant.is_some_and(|grant| grant.permits(command.name.as_str())) {
        let name = command.name.clone();
        return Err(addressed.refuse(Refusal::NotGranted(name)));
    }
    Ok(Authorised(addressed))
}

impl Authorised {
    pub(super) fn addressed(&self) -> &Addressed {
        &self.0
    }

    pub(super) fn into_addressed(self) -> Addressed {
        self.0
    }
}
