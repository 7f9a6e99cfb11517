//! The files of a folder of keys: whether anybody else can reach them, what is in them, and which of them lie together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use countersign_client::StateReport;
use countersign_keys::{KeyFolder, Login, read_key, read_secret, shell_word};
use countersign_link::BrokerAddress;
use countersign_protocol::credential::Role;

use super::{Check, Findings, Level, Machine};

/// Looks at every private file: its mode, its owner, the folders above it, and that a key is in it.
pub(super) fn examine(folder: &KeyFolder, found: &mut Findings) {
    let root = folder.path();
    let mut private = 0;
    for below in [root.to_owned(), root.join("operators"), root.join("clients"), root.join("nats")] {
        for path in files(&below) {
            let read = match path.extension().and_then(|end| end.to_str()) {
                Some("pem") => read_key(&path).map(drop),
                Some("creds") => Login::read(&path).map(drop),
                Some("nk") => read_secret(&path).map(drop),
                _ => continue,
            };
            private += 1;
            if let Err(error) = read {
                found.file(Check::Keys, &error);
            }
        }
    }
    orphans(folder, found);
    if found.is_clean(Check::Keys) {
        found.fine(Check::Keys, format!("{private} private files, each for its owner alone"));
    }
}

/// Signing keys without a credential: nothing else names them.
fn orphans(folder: &KeyFolder, found: &mut Findings) {
    for role in [Role::Operator, Role::Client] {
        for path in files(&folder.path().join(format!("{role}s"))) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pem")?.parse().ok());
            let Some(name) = name.filter(|name| !folder.credential(role, name).exists()) else { continue };
            found.add(
                Check::Keys,
                Level::Broken,
                format!("{} is there, and its credential {} is not", path.display(), folder.credential(role, &name).display()),
                "a credential beside each key: without one, nobody believes what the key signs",
                format!("fetch it from the issuer's folder; there, `countersign credential issue {role} {name}` completes what was begun"),
            );
        }
    }
}

/// The key of our own certificate, where the broker asks for one.
pub(super) fn examine_tls(broker: &BrokerAddress, found: &mut Findings) {
    let Some((_, key)) = &broker.tls.own else { return };
    // One that cannot be read is in the way of every connection, and is found there.
    let Ok(about) = fs::metadata(key) else { return };
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        found.add(
            Check::Keys,
            Level::Warning,
            format!("the key of TLS {} is open to others: its mode is {mode:04o}", key.display()),
            "mode 0600: who has it and the certificate can open connections in our place",
            format!("chmod 600 {}", shell_word(key)),
        );
    }
}

/// The root's and the issuer's keys beside those of members, whose machines do more than keep the realm.
pub(super) fn examine_places(folder: &KeyFolder, machine: &Machine, states: &[StateReport], found: &mut Findings) {
    if folder.root_key().exists() {
        found.add(
            Check::Places,
            Level::Warning,
            format!("{} is on this machine", folder.root_key().display()),
            "the root's key offline: whoever has it decides whom everybody trusts, and only `revoke`, `trust rotate` and the yearly \
             `init` need it",
            format!("mv {} /media/offline/", shell_word(&folder.root_key())),
        );
    }
    let runs = |name: &str| states.iter().any(|state| state.is_held && state.path.ends_with(name));
    let members = machine.members.iter().filter(|(role, name)| folder.key(*role, name).exists());
    let members: Vec<String> = members
        .map(|(role, name)| match role {
            Role::Client if runs(name.as_str()) => format!("client {name}, which runs here"),
            _ => format!("{role} {name}"),
        })
        .collect();
    let realms = [folder.issuer_key(), folder.authority()].into_iter().filter(|path| path.exists());
    let realms: Vec<String> = realms.map(|path| path.display().to_string()).collect();
    if !realms.is_empty() && !members.is_empty() {
        const MOST: usize = 4;
        let more = members.len().saturating_sub(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let members = members.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
        found.add(
            Check::Places,
            Level::Warning,
            format!("{} lie beside the private keys of {members}{more}", realms.join(" and ")),
            "each member's keys on its own machine, and the realm's on none of them: whoever breaks into that machine could make \
             any credential and any login",
            "move each NAME.pem and its .creds to the member's machine (keys/README.md, *Another machine*), and keep the .jwt files here",
        );
    }
    if found.is_clean(Check::Places) {
        found.fine(Check::Places, "no key lies beside one that belongs elsewhere");
    }
}

/// The regular and other files in a folder, in their order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| !path.is_dir()).collect();
    files.sort();
    files
}
