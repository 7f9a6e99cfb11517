//! One definition: what it says, and the rules that it must keep.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_protocol::command::Builtin;
use countersign_protocol::digest::Digest;
use countersign_protocol::name::Name;
use countersign_protocol::schema::Schema;
use countersign_protocol::text::escape;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

use super::confinement::{self, Confinement};
use super::executable::{obstacle, shown, writable_by_others};
use super::folder::{DefinitionError, read_trusted};
use super::units;
use super::user::User;

/// The longest schema file, in bytes.
const MAX_SCHEMA_FILE: u64 = 65_536;
/// How long a program may run, unless its definition says otherwise.
const TIMEOUT: Duration = Duration::from_mins(10);
const MAX_TIMEOUT: Duration = Duration::from_hours(7 * 24);
/// How long after SIGTERM comes SIGKILL, unless a definition says otherwise.
const GRACE: Duration = Duration::from_secs(5);
const MAX_GRACE: Duration = Duration::from_mins(1);
/// How much of each stream is kept, unless a definition says otherwise, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
const LARGEST_OUTPUT: u64 = 1 << 30;
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1_024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that can be run as a command (section 13).
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) name: Name,
    pub(crate) description: String,
    /// The digest of its file.
    pub(crate) digest: Digest,
    /// What is started, with its words; the first is an absolute path.
    pub(crate) words: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) concurrency: Option<usize>,
    pub(crate) args: Arc<Schema>,
    /// What the program's own result must satisfy.
    pub(crate) value: Arc<Schema>,
    /// Whether it must return one.
    pub(crate) requires_value: bool,
    /// What the whole result satisfies.
    pub(crate) result: Arc<Schema>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) max_output: u64,
    pub(super) user: Option<User>,
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) memory: Option<u64>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) open_files: Option<u64>,
    pub(super) confinement: Option<Confinement>,
    /// The files beside the definition that it names.
    pub(super) files: Vec<String>,
}

/// A definition as it stands in its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    description: Option<Spanned<String>>,
    program: Spanned<Vec<String>>,
    timeout: Option<Spanned<String>>,
    grace: Option<Spanned<String>>,
    concurrency: Option<Spanned<i64>>,
    args: Option<Spanned<toml::Value>>,
    result: Option<Spanned<toml::Value>>,
    environment: Option<Spanned<BTreeMap<String, String>>>,
    max_output: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    working_directory: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    cpu: Option<Spanned<String>>,
    open_files: Option<Spanned<i64>>,
    read_only: Option<Spanned<bool>>,
    readable: Option<Spanned<Vec<String>>>,
    writable: Option<Spanned<Vec<String>>>,
    trust: Option<Spanned<String>>,
}

/// What a file says, while it is read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// What no confined program may reach.
    hidden: &'a [PathBuf],
    errors: Vec<DefinitionError>,
    files: Vec<String>,
}

impl Program {
    /// Its command's name: that of its file.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it does, for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Why it would not start if it were called now; nothing where it would.
    pub fn obstacle(&self) -> Option<String> {
        let program = self.words.first().and_then(|file| obstacle(Path::new(file)));
        program.or_else(|| self.confinement.as_ref().and_then(|_| confinement::obstacle()))
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// Every rule that it breaks.
    pub(super) fn read(name: Name, path: &Path, text: &str, hidden: &[PathBuf]) -> Result<Self, Vec<DefinitionError>> {
        let mut reader = Reader { path, text, hidden, errors: Vec::new(), files: Vec::new() };
        if Builtin::from_name(name.as_str()).is_some() {
            reader.error(None, format!("`{name}` is a command of the protocol itself"), "another name for the file");
        }
        let written: Written = match toml::from_str(text) {
            Ok(written) => written,
            Err(error) => {
                let what = escape(error.message().lines().next().unwrap_or_default()).into_owned();
                reader.error(error.span(), what, "TOML with the keys that docs/operations.md lists");
                return Err(reader.errors);
            }
        };
        let program = reader.program(name, written);
        if reader.errors.is_empty() { Ok(program) } else { Err(reader.errors) }
    }
}

impl Reader<'_> {
    fn program(&mut self, name: Name, written: Written) -> Program {
        let description = self.description(written.description.as_ref());
        let words = self.words(&written.program);
        let (timeout, grace) = (written.timeout.as_ref(), written.grace.as_ref());
        let timeout = self.duration(timeout, "timeout", Duration::from_millis(1)..=MAX_TIMEOUT).unwrap_or(TIMEOUT);
        let grace = self.duration(grace, "grace", Duration::ZERO..=MAX_GRACE).unwrap_or(GRACE);
        let cpu = self.duration(written.cpu.as_ref(), "cpu", Duration::from_secs(1)..=MAX_TIMEOUT);
        let memory = self.size(written.memory.as_ref(), "memory", 16 << 20..=1 << 50);
        let max_output = self.size(written.max_output.as_ref(), "max_output", 1..=LARGEST_OUTPUT).unwrap_or(MAX_OUTPUT);
        let concurrency = self.number(written.concurrency.as_ref(), "concurrency", 1..=4_096);
        let open_files = self.number(written.open_files.as_ref(), "open_files", 16..=1 << 20);
        let args = self.args(&name, written.args.as_ref());
        let (value, result) = self.result(&name, written.result.as_ref());
        let environment = self.environment(written.environment.as_ref());
        let user = self.user(written.user.as_ref());
        let working_directory = written.working_directory.as_ref().map(|folder| {
            if !Path::new(folder.get_ref()).is_absolute() {
                self.error(Some(folder.span()), "`working_directory` is not absolute".to_owned(), "an absolute path");
            }
            PathBuf::from(folder.get_ref())
        });
        let confinement = self.confinement(&written, &words, working_directory.as_deref());
        let can_reach_keys = match &user {
            Some(user) if !user.is_own() => false,
            // What root may do by other ways than files is not confined.
            _ => confinement.is_none() || User::own().uid == 0,
        };
        self.trust(written.trust.as_ref(), can_reach_keys && args.admits_free_text(), &written.program);
        Program {
            name,
            description,
            digest: Digest::of(self.text.as_bytes()),
            words,
            timeout,
            grace,
            concurrency,
            args: Arc::new(args),
            value: Arc::new(value),
            requires_value: written.result.is_some(),
            result: Arc::new(result),
            environment,
            max_output,
            user,
            working_directory,
            memory,
            cpu,
            open_files: open_files.and_then(|number| u64::try_from(number).ok()),
            confinement,
            files: std::mem::take(&mut self.files),
        }
    }

    fn description(&mut self, written: Option<&Spanned<String>>) -> String {
        let Some(written) = written else { return String::new() };
        if written.get_ref().chars().count() > MAX_DESCRIPTION {
            let expected = format!("at most {MAX_DESCRIPTION} characters");
            self.error(Some(written.span()), "`description` is too long".to_owned(), expected);
        }
        written.get_ref().clone()
    }

    /// What is started: a word that begins with `./` is a file beside the definition.
    fn words(&mut self, written: &Spanned<Vec<String>>) -> Vec<String> {
        let span = Some(written.span());
        let words: Vec<String> = written.get_ref().iter().map(|word| self.word(word)).collect();
        let Some(program) = words.first() else {
            self.error(
                span,
                "`program` is empty".to_owned(),
                "an absolute path, or ./FILE for one beside the definition, and its words",
            );
            return words;
        };
        if !Path::new(program).is_absolute() {
            let what = format!("`program` does not begin with an absolute path: {}", escape(program));
            let expected = "an absolute path, or ./FILE for one beside the definition, and its words";
            self.error(span.clone(), what, expected);
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.error(span.clone(), "a word of `program` holds a zero byte".to_owned(), "words without");
        }
        // A script that an interpreter is given is as much the program as the interpreter is.
        for word in words.iter().filter(|word| Path::new(word).is_absolute()) {
            if Path::new(word).is_file()
                && let Some(what) = writable_by_others(Path::new(word))
            {
                self.error(span.clone(), what, "a program that only its owner and root may change (`chmod go-w`)");
            }
        }
        words
    }

    fn word(&mut self, word: &str) -> String {
        let Some(file) = word.strip_prefix("./") else { return word.to_owned() };
        let beside = self.path.with_file_name(file);
        self.files.push(file.to_owned());
        std::path::absolute(&beside).unwrap_or(beside).to_string_lossy().into_owned()
    }

    fn args(&mut self, name: &Name, written: Option<&Spanned<toml::Value>>) -> Schema {
        let none = json!({ "type": "object", "additionalProperties": false, "properties": {} });
        let schema = self.schema(&format!("{name}.args"), written, none);
        if !schema.is_of_closed_objects() {
            let expected = "`type = \"object\"` and `additionalProperties = false` at the top: arguments are closed";
            let what = "the schema of `args` admits members that it does not describe".to_owned();
            self.error(written.map(Spanned::span), what, expected);
        }
        schema
    }

    /// The schema of the program's own result, and that of the whole.
    fn result(&mut self, name: &Name, written: Option<&Spanned<toml::Value>>) -> (Schema, Schema) {
        let value = self.schema(&format!("{name}.value"), written, json!({}));
        let mut own: Value = serde_json::from_str(value.text()).unwrap_or_default();
        let mut whole = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["exit_code", "stdout", "stderr"],
            "properties": { "exit_code": { "const": 0 }, "stdout": { "type": "object" }, "stderr": { "type": "object" } },
        });
        if let Some(own) = own.as_object_mut() {
            own.remove("$id");
            own.remove("$schema");
            if let Some(defs) = own.remove("$defs") {
                whole["$defs"] = defs;
            }
        }
        whole["properties"]["value"] = own;
        if written.is_some() {
            whole["required"] = json!(["exit_code", "stdout", "stderr", "value"]);
        }
        let result = Schema::written(&format!("{name}.result"), whole).unwrap_or_else(|error| {
            self.error(written.map(Spanned::span), error.to_string(), "a smaller schema");
            Schema::of::<Value>("any")
        });
        (value, result)
    }

    /// A schema that is a table here, or in a file beside the definition; what is wrong with it is noted.
    fn schema(&mut self, name: &str, written: Option<&Spanned<toml::Value>>, none: Value) -> Schema {
        let given = match written.map(|written| (written.span(), written.get_ref())) {
            None => Ok(none),
            Some((_, toml::Value::String(file))) => self.schema_file(file),
            Some((_, table @ toml::Value::Table(_))) => from_toml(table),
            Some(_) => Err("it is neither a table nor the name of a file".to_owned()),
        };
        let schema = given.and_then(|value| Schema::written(name, value).map_err(|error| error.to_string()));
        schema.unwrap_or_else(|what| {
            let expected = "a JSON Schema (draft 2020-12): a table, or a file beside the definition";
            self.error(written.map(Spanned::span), format!("the schema `{name}`: {what}"), expected);
            Schema::of::<Map<String, Value>>(name)
        })
    }

    fn schema_file(&mut self, file: &str) -> Result<Value, String> {
        if file.contains('/') || file.starts_with('.') {
            return Err("it is not the name of a file beside the definition".to_owned());
        }
        self.files.push(file.to_owned());
        let path = self.path.with_file_name(file);
        let text = read_trusted(&path, MAX_SCHEMA_FILE)?;
        countersign_protocol::json::parse(text.as_bytes())
            .map(Value::Object)
            .map_err(|error| format!("{}: {error}", shown(&path)))
    }

    fn environment(&mut self, written: Option<&Spanned<BTreeMap<String, String>>>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        let Some(written) = written else { return environment };
        for (name, value) in written.get_ref() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
            if !is_name || name.starts_with("COUNTERSIGN_") || value.contains('\0') {
                let what = format!("`environment` has `{}`, which cannot be set", escape(name));
                let expected = "letters, digits and _, not beginning with COUNTERSIGN_, and no zero byte";
                self.error(Some(written.span()), what, expected);
            }
            environment.insert(name.clone(), value.clone());
        }
        environment
    }

    fn user(&mut self, written: Option<&Spanned<String>>) -> Option<User> {
        let written = written?;
        let user = User::named(written.get_ref()).and_then(|user| {
            if user.is_own() || User::own().uid == 0 {
                Ok(user)
            } else {
                Err(format!("only root may run a program as the user `{}`", escape(&user.name)))
            }
        });
        user.map_err(|what| self.error(Some(written.span()), what, "a user that the client may change to")).ok()
    }

    /// What the program is confined to: by `read_only`, and by the paths beyond that.
    fn confinement(&mut self, written: &Written, words: &[String], works_in: Option<&Path>) -> Option<Confinement> {
        let read_only = written.read_only.as_ref();
        let (readable, writable) = (written.readable.as_ref(), written.writable.as_ref());
        if let Some(beyond) = readable.or(writable)
            && read_only.is_none_or(|read_only| !read_only.get_ref())
        {
            let what = "`readable` and `writable` say what a confined program may reach, and it is not confined";
            self.error(Some(beyond.span()), what.to_owned(), "`read_only = true` beside them");
        }
        if !read_only.is_some_and(|read_only| *read_only.get_ref()) {
            return None;
        }
        let mut readable = self.paths(readable, "readable");
        let own = words.iter().map(Path::new).filter(|word| word.is_absolute() && word.is_file());
        readable.extend(own.chain(works_in).map(Path::to_owned));
        let beside = std::path::absolute(self.path).ok();
        readable.extend(beside.as_deref().and_then(Path::parent).map(Path::to_owned));
        Some(Confinement { readable, writable: self.paths(writable, "writable"), hidden: self.hidden.to_vec() })
    }

    fn paths(&mut self, written: Option<&Spanned<Vec<String>>>, key: &str) -> Vec<PathBuf> {
        let Some(written) = written else { return Vec::new() };
        let paths: Vec<PathBuf> = written.get_ref().iter().map(PathBuf::from).collect();
        if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
            self.error(Some(written.span()), format!("`{key}` has {}", shown(path)), "absolute paths");
        }
        paths
    }

    /// A program that may take what a sender writes for code must not reach the keys that the client holds.
    fn trust(&mut self, written: Option<&Spanned<String>>, is_needed: bool, program: &Spanned<Vec<String>>) {
        match written {
            Some(trust) if trust.get_ref() != "same-user" => {
                let what = format!("`trust` is `{}`", escape(trust.get_ref()));
                self.error(Some(trust.span()), what, "`trust = \"same-user\"`, or nothing");
            }
            None if is_needed => self.error(
                Some(program.span()),
                "its arguments may hold any text, which the program may take for code, and it runs as the client's user"
                    .to_owned(),
                "a `user` of its own, `read_only = true` where the client is not root, a schema whose texts have an \
                 `enum`, a `const` or a `pattern` from ^ to $, or `trust = \"same-user\"`: the program can then read \
                 the client's keys",
            ),
            Some(_) | None => {}
        }
    }

    fn duration(
        &mut self,
        written: Option<&Spanned<String>>,
        key: &str,
        bounds: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let written = written?;
        let duration = units::duration(written.get_ref()).filter(|duration| bounds.contains(duration));
        if duration.is_none() {
            let what = format!("`{key}` is `{}`", escape(written.get_ref()));
            let expected = format!("from {:?} to {:?}, such as 500ms, 5s, 1m30s or 2h", bounds.start(), bounds.end());
            self.error(Some(written.span()), what, expected);
        }
        duration
    }

    fn size(
        &mut self,
        written: Option<&Spanned<String>>,
        key: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let written = written?;
        let size = units::size(written.get_ref()).filter(|size| bounds.contains(size));
        if size.is_none() {
            let what = format!("`{key}` is `{}`", escape(written.get_ref()));
            let expected = format!("from {} to {} bytes, such as 64KiB or 1MiB", bounds.start(), bounds.end());
            self.error(Some(written.span()), what, expected);
        }
        size
    }

    fn number(
        &mut self,
        written: Option<&Spanned<i64>>,
        key: &str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<usize> {
        let written = written?;
        if !bounds.contains(written.get_ref()) {
            let expected = format!("from {} to {}", bounds.start(), bounds.end());
            self.error(Some(written.span()), format!("`{key}` is {}", written.get_ref()), expected);
        }
        usize::try_from(*written.get_ref()).ok()
    }

    fn error(&mut self, span: Option<Range<usize>>, what: String, expected: impl Into<String>) {
        let line = span.map(|span| 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        self.errors.push(DefinitionError { path: self.path.to_owned(), line, what, expected: expected.into() });
    }
}

fn from_toml(value: &toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(bool) => json!(bool),
        toml::Value::Datetime(_) => return Err("JSON has no dates".to_owned()),
        toml::Value::Array(items) => Value::Array(items.iter().map(from_toml).collect::<Result<_, _>>()?),
        toml::Value::Table(members) => {
            let members = members.iter().map(|(name, value)| Ok((name.clone(), from_toml(value)?)));
            Value::Object(members.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}
