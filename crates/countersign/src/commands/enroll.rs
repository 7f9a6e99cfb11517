//! `countersign enroll` on a worker: it makes its own keys, asks, and verifies what it is answered.

use std::io::{IsTerminal, Read, stdin};
use std::path::Path;
use std::time::Duration;

use countersign_host::clock;
use countersign_keys::{
    Fault, KeyFileError, KeyFolder, Login, Seed, load_pin, load_trust, read_own, read_secret, shell_word,
};
use countersign_link::{BrokerAddress, EnrolmentLink, Heard, LinkError, READABLE, TlsFiles};
use countersign_protocol::enrolment::{
    AnswerError, Answered, Enrolment, EnrolmentCode, EnrolmentError, Token, TokenError,
};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::{MAX_ENROLMENT_ANSWER, MAX_TOKEN};
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use countersign_provisioning::FileChange;
use countersign_provisioning::enrolment::worker::{
    Enrolling, Origin, Wanted, begun_names, expect_realm, is_enrolled, lock_folder,
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::args::{EnrollArgs, Format, JoinArgs, KeysArgs, Source};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::enrolment;
use crate::output::{Output, changes_table};

/// How long the issuer is waited for by default.
const TIMEOUT: Duration = Duration::from_secs(30);
/// When another request is sent where nothing has answered the first, which may have been lost; each pause is twice the one before,
/// and none is longer than [`LONGEST_PAUSE`]: of many who ask at once, each is answered.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Enrols this worker, or does what else is asked for.
pub(crate) async fn run(args: &EnrollArgs, output: Output) -> CliResult<Exit> {
    match &args.action {
        Some(action) => enrolment::run(action, output).await,
        None => join(&args.join, output).await,
    }
}

async fn join(args: &JoinArgs, output: Output) -> CliResult<Exit> {
    let token = read_token(args, output)?;
    let wanted = wanted(args, &token)?;
    let folder = KeyFolder::new(&*args.keys.keys);
    let origin = Origin::Token(&token.id);
    let now = clock::wall();
    if let Some(realm) = &args.keys.realm
        && **realm != token.realm
    {
        return Err(CliError::usage(format!("the token is of the realm {}, not {}", token.realm, **realm))
            .expected("a token of the realm that --realm names")
            .hint("ask for another, or leave out --realm"));
    }
    expect_realm(&folder, &token.realm, &token.root)?;
    let _lock = lock_folder(&folder)?;
    let next = Next { folder: &folder, name: &wanted.name, broker: broker_url(args, &token), ca: token.ca.is_some() };
    if is_enrolled(&folder, origin, &wanted.name, now) {
        output.note(format!("{} is enrolled already, with this token", wanted.name));
        return print_enrolled(&next, None, Vec::new(), args.output.format(), output);
    }
    let mut enrolling = Enrolling::begin(&folder, origin, &wanted.name)?;
    let interrupted = match enrolling.interrupted() {
        Some(answer) => enrolling.open(&answer, token.root, &wanted, now)?.ok().map(|opened| (answer, opened)),
        None => None,
    };
    let (answer, enrolment) = match interrupted {
        Some((answer, Answered::Enrolled(enrolment))) => (answer, enrolment),
        _ => ask(args, &token, &wanted, &mut enrolling, output).await?,
    };
    let files = enrolling.install(&answer, &enrolment, token.root, token.ca.as_deref(), clock::wall())?;
    print_enrolled(&next, Some(&enrolment), files, args.output.format(), output)
}

/// Asks until there is an answer by the issuer, or the time is over.
async fn ask(
    args: &JoinArgs,
    token: &Token,
    wanted: &Wanted,
    enrolling: &mut Enrolling,
    output: Output,
) -> CliResult<(Vec<u8>, Enrolment)> {
    let now = clock::wall();
    if now >= token.expires_at {
        return Err(CliError::keys(format!(
            "the token's time ended on {}, and it is {} by this machine's clock",
            token.expires_at.utc(),
            now.utc()
        ))
        .expected("a token whose time is not over")
        .hint("ask for another; or set this machine's clock"));
    }
    let ca = token.ca.as_deref().map(|ca| enrolling.ca_file(ca)).transpose()?;
    let address = address(args, token, ca);
    let seed = Seed::parse(&token.seed).ok_or_else(|| wrong_token(&TokenError::Content("its seed".to_owned())))?;
    let asks = subject::enrolment_request(&token.realm, &token.id);
    let hears = subject::enrolment_answer(&token.realm, &token.id, &enrolling.thumbprint());
    let login = Login::new(seed, token.user_jwt.as_str());
    let mut link =
        EnrolmentLink::connect(address, login, asks, hears).await.map_err(|error| no_broker(error, token))?;
    if link.is_readable_by_others() {
        output.note(READABLE);
    }
    let limit =
        args.timeout.map_or(TIMEOUT, |it| Duration::from_millis(u64::try_from(it.millis()).unwrap_or(u64::MAX)));
    let deadline = Instant::now() + limit;
    let key = token.client.as_ref().map(|client| client.key());
    let mut last = Silence::Nothing;
    let mut is_told = false;
    let mut pause = FIRST_PAUSE;
    while Instant::now() < deadline {
        let request = enrolling.request(wanted, Some((&token.id, key.as_ref())), clock::wall())?;
        if !link.ask(request).await {
            return Err(no_broker(LinkError::System("the connection broke".to_owned()), token));
        }
        let again = deadline.min(Instant::now() + pause);
        pause = LONGEST_PAUSE.min(pause * 2);
        while let Ok(heard) = timeout_at(again, link.hear()).await {
            let answer = match heard {
                Some(Heard::Answer(answer)) => answer.to_vec(),
                Some(Heard::NoIssuer) => {
                    last = Silence::NoIssuer;
                    continue;
                }
                None => return Err(no_broker(LinkError::System("the connection broke".to_owned()), token)),
            };
            match enrolling.open(&answer, token.root, wanted, clock::wall())? {
                Ok(Answered::Enrolled(enrolment)) => return Ok((answer, enrolment)),
                // It waited where the issuer had much to do, and is not about the clocks.
                Ok(Answered::Refused { request, error, at: _ })
                    if error.code == EnrolmentCode::Clock && !enrolling.is_latest(request) => {}
                Ok(Answered::Refused { error, .. }) if error.code == EnrolmentCode::Pending => {
                    last = Silence::Pending;
                    if !is_told {
                        is_told = true;
                        output.note(format!(
                            "a person has to approve {} with the key {}",
                            wanted.name,
                            enrolling.thumbprint()
                        ));
                    }
                }
                Ok(Answered::Refused { error, at, .. }) => return Err(refused(&error, &wanted.name, Some(at))),
                // What is not the issuer's answer to this request counts for nothing.
                Err(AnswerError::Request) => {}
                Err(error) => last = Silence::Disbelieved(error),
            }
        }
    }
    Err(last.error(limit, wanted, enrolling))
}

/// What was heard in place of an answer.
enum Silence {
    Nothing,
    NoIssuer,
    Pending,
    Disbelieved(AnswerError),
}

impl Silence {
    fn error(self, limit: Duration, wanted: &Wanted, enrolling: &Enrolling) -> CliError {
        let seconds = limit.as_secs();
        let absent = |what: String| {
            CliError::new(Exit::Broker, what)
                .expected("an issuer of the realm that answers; the token is not spent")
                .hint("start `countersign issuer` on the issuer's machine, then run this again")
        };
        match self {
            Self::Nothing => absent(format!("nothing answered for {seconds} s")),
            Self::NoIssuer => absent(format!("the broker is there, and no issuer listened for {seconds} s")),
            Self::Pending => {
                CliError::new(Exit::NotEnded, format!("nobody has decided on {} within {seconds} s", wanted.name))
                    .expected(format!("`countersign enroll approve {} {}`", wanted.name, enrolling.thumbprint()))
                    .hint("run this again; the keys stay, and --timeout waits for longer")
            }
            Self::Disbelieved(error) => CliError::keys(format!("what answered is not believed: {error}"))
                .expected("an answer that an issuer signed, whom the token's root vouches for")
                .hint("if the root was replaced, ask for another token; else the broker is not to be trusted"),
        }
    }
}

/// Makes the keys and prints the request, the same again for the same groups.
pub(crate) fn request(name: &Name, groups: &[Name], keys: &KeysArgs, output: Output) -> CliResult<Exit> {
    let folder = KeyFolder::new(&*keys.keys);
    let known = load_trust(&folder).ok().map(|trust| trust.realm().clone());
    let realm = keys.realm.as_deref().cloned().or(known);
    let _lock = lock_folder(&folder)?;
    let mut enrolling = Enrolling::begin(&folder, Origin::File, name)?;
    let wanted = Wanted { realm, name: name.clone(), groups: sorted(groups) };
    let request = match enrolling.last_request(&wanted) {
        Some(request) => request,
        None => enrolling.request(&wanted, None, clock::wall())?,
    };
    output.text(&String::from_utf8_lossy(&request))?;
    output.note(format!(
        "the key of {name} has the thumbprint {}: compare it where this is signed",
        enrolling.thumbprint()
    ));
    Ok(Exit::Succeeded)
}

/// Verifies an answer that was carried here.
pub(crate) fn accept(
    file: &Path,
    pin: Option<Thumbprint>,
    keys: &KeysArgs,
    format: Format,
    output: Output,
) -> CliResult<Exit> {
    let folder = KeyFolder::new(&*keys.keys);
    let answer = read_document(file, MAX_ENROLMENT_ANSWER)?;
    let pin = match pin {
        Some(pin) => pin,
        None => load_pin(&folder).map_err(|error| match error {
            KeyFileError { fault: Fault::Missing, path } => {
                CliError::usage(format!("nothing says which root to believe: {} does not exist", path.display()))
                    .expected("the root's thumbprint, as `countersign enroll sign` shows it")
                    .hint("--pin THUMBPRINT")
            }
            error => error.into(),
        })?,
    };
    let _lock = lock_folder(&folder)?;
    let mut other = None;
    for name in begun_names(&folder) {
        let enrolling = Enrolling::begin(&folder, Origin::File, &name)?;
        let Some(wanted) = enrolling.wanted() else { continue };
        match enrolling.open(&answer, pin, &wanted, clock::wall())? {
            Ok(Answered::Enrolled(enrolment)) => {
                let files = enrolling.install(&answer, &enrolment, pin, None, clock::wall())?;
                let next = Next { folder: &folder, name: &name, broker: "URL".to_owned(), ca: false };
                return print_enrolled(&next, Some(&enrolment), files, format, output);
            }
            Ok(Answered::Refused { error, at, .. }) => return Err(refused(&error, &name, Some(at))),
            Err(AnswerError::Request) => {}
            Err(error) => other = Some(error),
        }
    }
    let what = match &other {
        Some(error) => format!("{} is not believed: {error}", file.display()),
        None => format!("{} answers no request that was made in {}", file.display(), folder.path().display()),
    };
    Err(CliError::keys(what)
        .expected("what `countersign enroll sign` printed for the last request of this folder")
        .hint(match &other {
            Some(AnswerError::Trust(_)) => "compare --pin with root.thumbprint on the issuer's machine",
            Some(AnswerError::Credential(_)) => "compare this machine's clock with the issuer's",
            _ => "carry the request to the issuer again, and the answer back",
        }))
}

/// What a document in a file says, as if nothing had been added at its ends.
pub(crate) fn read_document(file: &Path, max: usize) -> CliResult<Vec<u8>> {
    let raw = if file == Path::new("-") { read_stdin(max + 64)? } else { read_own(file, max + 64)? };
    let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&raw);
    Ok(raw.trim_ascii().to_vec())
}

fn read_stdin(max: usize) -> CliResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    stdin().lock().take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| {
        CliError::usage(format!("standard input cannot be read: {error}"))
            .expected("what is to be read there")
            .hint("name a file")
    })?;
    Ok(bytes)
}

fn read_token(args: &JoinArgs, output: Output) -> CliResult<Token> {
    let text: Zeroizing<String> = match (&args.source.token, &args.source.file) {
        (_, Some(file)) => read_secret(file)?,
        (Some(token), None) if token != "-" => {
            output.alarm("the token is an argument, which every user of this machine can see; standard input is the place for it");
            Zeroizing::new(token.clone())
        }
        _ if stdin().is_terminal() => {
            output.note("paste the token, then press Enter");
            let mut line = Zeroizing::new(String::new());
            // A terminal hands over lines, of 4,095 characters at most.
            stdin()
                .read_line(&mut line)
                .map_err(|error| CliError::usage(format!("standard input cannot be read: {error}")))?;
            line
        }
        _ => Zeroizing::new(String::from_utf8_lossy(&Zeroizing::new(read_stdin(2 * MAX_TOKEN)?)).into_owned()),
    };
    Token::parse(&text).map_err(|error| wrong_token(&error))
}

fn wrong_token(error: &TokenError) -> CliError {
    CliError::keys(error).expected("the whole token, as `countersign enroll token` printed it").hint(match error {
        TokenError::NotAToken => "give the token alone, by standard input or by --file",
        TokenError::Content(_) => "use the version of countersign that made it, or ask for another token",
        _ => "copy it again; it is not spent",
    })
}

/// What is asked for: what the token is for, and nothing else.
fn wanted(args: &JoinArgs, token: &Token) -> CliResult<Wanted> {
    let realm = Some(token.realm.clone());
    let groups = sorted(&args.group);
    let Some(client) = &token.client else {
        let name = args.name.clone().ok_or_else(|| {
            CliError::usage("the token is for whoever has it, and names no client")
                .expected("the name that this worker asks for")
                .hint("--name NAME")
        })?;
        return Ok(Wanted { realm, name, groups });
    };
    let other = |what: String| {
        Err(CliError::usage(what).expected("the name and the groups that the token was made for").hint(format!(
            "leave out --name and --group; or `countersign enroll token {}` with the right ones",
            client.name
        )))
    };
    if args.name.as_ref().is_some_and(|name| *name != client.name) {
        return other(format!("the token is for the client {}", client.name));
    }
    if !groups.is_empty() && groups != client.groups {
        let named: Vec<&str> = client.groups.iter().map(Name::as_str).collect();
        return other(format!("the token is for the groups [{}]", named.join(", ")));
    }
    Ok(Wanted { realm, name: client.name.clone(), groups: client.groups.clone() })
}

fn sorted(groups: &[Name]) -> Vec<Name> {
    let mut groups = groups.to_vec();
    groups.sort();
    groups.dedup();
    groups
}

fn broker_url(args: &JoinArgs, token: &Token) -> String {
    match args.broker.nats_url.source() {
        Source::Default | Source::Context(_) => token.broker.clone(),
        _ => args.broker.nats_url.to_string(),
    }
}

/// The token's broker, where neither an option nor the environment names another.
fn address(args: &JoinArgs, token: &Token, ca: Option<std::path::PathBuf>) -> BrokerAddress {
    let given = args.broker.address();
    let tls = TlsFiles { ca: given.tls.ca.or(ca), own: given.tls.own };
    BrokerAddress { url: broker_url(args, token), tls }
}

fn no_broker(error: LinkError, token: &Token) -> CliError {
    let is_refused = matches!(error, LinkError::Refused { .. });
    let error = CliError::from(error).at("the broker of the token");
    if !is_refused {
        return error;
    }
    error.expected("a token whose user the broker lets in: until an hour after the token's end").hint(format!(
        "compare this machine's clock with the broker's; the token ended on {}: ask for another if that is over",
        token.expires_at.utc()
    ))
}

/// Why the issuer did not enrol.
pub(crate) fn refused(error: &EnrolmentError, name: &Name, at: Option<Millis>) -> CliError {
    let message = escape(&error.message).chars().take(300).collect::<String>();
    let (expected, hint) = match error.code {
        EnrolmentCode::TokenUsed => (
            "a token that nobody has used",
            format!("if that was not you, somebody else is {name} now; `countersign enroll token {name} --replace`"),
        ),
        EnrolmentCode::TokenExpired => {
            ("a token whose time is not over", format!("`countersign enroll token {name}`, on the issuer's machine"))
        }
        EnrolmentCode::TokenUnknown => (
            "the last token that was made for this name, in the issuer's present folder",
            format!("`countersign enroll token {name}`, on the issuer's machine"),
        ),
        EnrolmentCode::TokenKey => {
            ("a request that the token's key signed", "copy the token again, and run this again".to_owned())
        }
        EnrolmentCode::Realm => {
            ("the issuer of the token's realm", "check which broker and which issuer it is".to_owned())
        }
        EnrolmentCode::Groups => (
            "the groups that the token was made for",
            format!("`countersign enroll token {name}` with the right --group"),
        ),
        EnrolmentCode::Clock => (
            "clocks that differ by 10 s at most; the token is not spent",
            "set the clock that is wrong, then run this again".to_owned(),
        ),
        EnrolmentCode::NameTaken => (
            "a name that nobody has, or that may be replaced",
            format!("`countersign enroll token {name} --replace`, on the issuer's machine, which revokes the old keys"),
        ),
        EnrolmentCode::KnownKey => {
            ("new keys, which nobody has or had", "ask for another token: with it new keys are made".to_owned())
        }
        EnrolmentCode::Denied => ("that a person approves it", "ask whoever runs the realm".to_owned()),
        EnrolmentCode::Pending => ("that a person approves it", "run this again when somebody has".to_owned()),
        EnrolmentCode::Unavailable => (
            "an issuer that can issue; the token is not lost: the same keys may ask again",
            "see the issuer's log, then run this again".to_owned(),
        ),
    };
    let clocks = match (error.code, at) {
        (EnrolmentCode::Clock, Some(at)) => {
            format!("the clocks differ: it is {} here, and {} at the issuer", clock::wall().utc(), at.utc())
        }
        _ => format!("{name} is not enrolled: {message}"),
    };
    CliError::keys(clocks).expected(expected).hint(hint)
}

/// What comes next.
struct Next<'a> {
    folder: &'a KeyFolder,
    name: &'a Name,
    broker: String,
    ca: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    realm: Option<&'a Name>,
    name: &'a Name,
    groups: Option<&'a [Name]>,
    expires_at: Option<Millis>,
    files: Vec<FileChange>,
    command: String,
}

fn print_enrolled(
    next: &Next<'_>,
    enrolment: Option<&Enrolment>,
    files: Vec<FileChange>,
    format: Format,
    output: Output,
) -> CliResult<Exit> {
    let keys = shell_word(next.folder.path());
    let url = shell_word(Path::new(&next.broker));
    let ca = if next.ca { format!(" --tls-ca {}", shell_word(&next.folder.broker_ca())) } else { String::new() };
    let command = format!("countersign client --name {} --keys {keys} --nats-url {url}{ca}", next.name);
    let credential = enrolment.map(Enrolment::credential);
    match format {
        Format::Json | Format::Ndjson => output.json(&Document {
            realm: credential.map(|it| it.realm()),
            name: next.name,
            groups: credential.map(|it| it.groups()),
            expires_at: credential.map(|it| it.expires_at()),
            files,
            command,
        })?,
        Format::Table => {
            if !files.is_empty() {
                output.text(&changes_table(&files))?;
            }
            if let Some(credential) = credential {
                let (realm, end) = (credential.realm(), credential.expires_at().utc());
                output.note(format!("{} is enrolled in the realm {realm} until {end}", next.name));
            }
            output.note(format!("run it: {command}"));
        }
    }
    Ok(Exit::Succeeded)
}
