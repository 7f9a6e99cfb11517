//! The operator's next credential: on disk, or from the issuer over the bus (section 7).

use countersign_protocol::envelope::Signed;
use countersign_protocol::limits::SKEW;
use countersign_protocol::renewal::Renewal;

use crate::operator::{Operator, now};

impl Operator {
    /// Takes a credential that somebody has put on the disk meanwhile, or asks the issuer for one.
    pub(crate) fn renew(&mut self, request: Signed) {
        let Some(files) = &self.files else { return };
        match files.newer(self.machine.identity().credential(), self.machine.trust(), now().wall, SKEW) {
            Some(credential) => {
                let effects = self.machine.renewed(credential, now());
                self.apply(effects);
            }
            None => self.link.publish(request, None),
        }
    }

    /// Puts the issuer's answer in force, once it is on the disk.
    pub(crate) fn keep_renewal(&mut self, renewal: &Renewal) {
        let Some(files) = &self.files else { return };
        let effects = match files.keep(renewal) {
            Ok(()) => self.machine.renewed(renewal.credential().clone(), now()),
            Err(error) => self.machine.not_renewed(&error.what()),
        };
        self.apply(effects);
    }
}
