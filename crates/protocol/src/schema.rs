//! JSON Schemas (section 3), generated from the types and compiled once. Nothing is ever fetched.

mod written;

pub use self::written::InvalidSchema;

use std::fmt;
use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::command::{Builtin, ClientInfo, Command, Job};
use crate::credential::Claims;
use crate::digest::Digest;
use crate::enrolment::{EnrolmentAnswer, EnrolmentRequest};
use crate::envelope::MessageType;
use crate::event::Event;
use crate::json::{self, JsonError};
use crate::limits::MAX_INTEGER;
use crate::renewal::{RenewalAnswer, RenewalRequest};
use crate::reply::Reply;
use crate::text::{echo, escape};
use crate::trust::TrustBody;

/// A JSON Schema of draft 2020-12, ready to check values.
pub struct Schema {
    name: String,
    text: String,
    digest: Digest,
    validator: Validator,
    read: Option<Read>,
}

/// Tries to read a value as the type that a schema describes.
type Read = fn(&Value) -> Result<(), JsonError>;

/// What is wrong with a value, and where. What it quotes is escaped and cut to 64 characters (section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// A JSON pointer to what is wrong; the empty one points to the whole.
    pub path: String,
    /// The keyword of the schema that is not met, or `type` where only the Rust type is not.
    pub keyword: String,
    /// A sentence for people.
    pub message: String,
}

/// The schema of what is in a signed message of a type.
pub fn envelope(of: MessageType) -> &'static Schema {
    static COMMAND: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Command>("command"));
    static REPLY: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Reply>("reply"));
    static EVENT: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Event>("event"));
    static CREDENTIAL: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Claims>("credential"));
    static TRUST: LazyLock<Schema> = LazyLock::new(|| Schema::of::<TrustBody>("trust"));
    static ENROLMENT_REQUEST: LazyLock<Schema> = LazyLock::new(|| Schema::of::<EnrolmentRequest>("enrolment-request"));
    static ENROLMENT_ANSWER: LazyLock<Schema> = LazyLock::new(|| Schema::of::<EnrolmentAnswer>("enrolment-answer"));
    static RENEWAL_REQUEST: LazyLock<Schema> = LazyLock::new(|| Schema::of::<RenewalRequest>("renewal-request"));
    static RENEWAL_ANSWER: LazyLock<Schema> = LazyLock::new(|| Schema::of::<RenewalAnswer>("renewal-answer"));
    match of {
        MessageType::Command => &COMMAND,
        MessageType::Reply => &REPLY,
        MessageType::Event => &EVENT,
        MessageType::Credential => &CREDENTIAL,
        MessageType::Trust => &TRUST,
        MessageType::EnrolmentRequest => &ENROLMENT_REQUEST,
        MessageType::EnrolmentAnswer => &ENROLMENT_ANSWER,
        MessageType::RenewalRequest => &RENEWAL_REQUEST,
        MessageType::RenewalAnswer => &RENEWAL_ANSWER,
    }
}

/// The schema of a command's arguments; it checks the type as well.
pub fn arguments(of: Builtin) -> &'static Schema {
    static ALL: LazyLock<PerCommand> = LazyLock::new(|| PerCommand::new("args", |builtin| builtin.properties().args));
    ALL.schema(of)
}

/// The schema of a command's result; it checks the type as well.
pub fn result(of: Builtin) -> &'static Schema {
    static ALL: LazyLock<PerCommand> =
        LazyLock::new(|| PerCommand::new("result", |builtin| builtin.properties().result));
    ALL.schema(of)
}

/// Every schema of the protocol, in the order of their names: what is committed as `schemas/<name>.json`.
pub fn all() -> Vec<&'static Schema> {
    static CLIENT_INFO: LazyLock<Schema> = LazyLock::new(|| Schema::of::<ClientInfo>("client-info"));
    static JOB: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Job>("job"));
    let mut all: Vec<&'static Schema> = vec![&CLIENT_INFO, &JOB];
    all.extend(MessageType::ALL.map(envelope));
    all.extend(Builtin::ALL.iter().flat_map(|builtin| [arguments(*builtin), result(*builtin)]));
    all.sort_by_key(|schema| schema.name());
    all
}

impl Schema {
    /// The schema of a type, under a name. Integers are kept within ±(2^53 − 1), which is what section 3 allows.
    ///
    /// # Panics
    /// When the type describes itself by something that is no valid schema, such as a pattern that cannot be matched in
    /// linear time. That is a defect of the type, and shows at the first use whatever comes from outside.
    pub fn of<T: JsonSchema>(name: &str) -> Self {
        let mut schema = generate::<T>(false);
        schema.insert("$id".to_owned(), json!(format!("urn:countersign:schema:1:{name}")));
        Self::compile(name, schema.to_value())
            .unwrap_or_else(|error| panic!("the schema `{name}` is not valid: {error}"))
    }

    fn compile(name: &str, mut value: Value) -> Result<Self, Box<ValidationError<'static>>> {
        // The text is the same whether or not some other crate makes `serde_json` keep the order of insertion.
        value.sort_all_objects();
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .offline()
            .build(&value)
            .map_err(Box::new)?;
        let text = format!("{value:#}\n");
        Ok(Self { name: name.to_owned(), digest: Digest::of(text.as_bytes()), text, validator, read: None })
    }

    /// As [`Schema::of`], and what the schema accepts must be readable as the type as well: `1.0` is an integer to a
    /// schema, and not to section 3.
    ///
    /// # Panics
    /// As [`Schema::of`].
    pub fn typed<T: JsonSchema + DeserializeOwned>(name: &str) -> Self {
        Self { read: Some(|value| json::read::<T>(value).map(drop)), ..Self::of::<T>(name) }
    }

    /// The name, unique among the schemas of the protocol.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema itself as it is committed: indented, its members sorted, a new line at the end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a value is accepted.
    pub fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value) && self.read.is_none_or(|read| read(value).is_ok())
    }

    /// What is wrong with a value, `max` errors at most; none if it is accepted.
    pub fn errors(&self, value: &Value, max: usize) -> Vec<SchemaError> {
        let mut errors: Vec<_> =
            self.validator.iter_errors(value).take(max).map(|error| schema_error(&error)).collect();
        if errors.is_empty()
            && max > 0
            && let Some(Err(error)) = self.read.map(|read| read(value))
        {
            let message = short(&error.to_string());
            errors.push(SchemaError { path: String::new(), keyword: "type".to_owned(), message });
        }
        errors
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// The schema of a type without references, to be put into another one.
pub(crate) fn inline<T: JsonSchema>() -> schemars::Schema {
    let mut schema = generate::<T>(true);
    schema.remove("$schema");
    schema
}

/// One schema for each command, in the order of their declaration.
struct PerCommand(Vec<Schema>);

impl PerCommand {
    fn new(part: &str, make: fn(Builtin) -> fn(&str) -> Schema) -> Self {
        Self(Builtin::ALL.iter().map(|builtin| make(*builtin)(&format!("{builtin}.{part}"))).collect())
    }

    fn schema(&self, of: Builtin) -> &Schema {
        &self.0[of as usize]
    }
}

fn generate<T: JsonSchema>(inline: bool) -> schemars::Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = inline)
        .with_transform(RecursiveTransform(bound_integers))
        .with_transform(RecursiveTransform(list_no_properties))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Replaces the formats of Rust's numbers, which no validator knows, by their bounds within those of section 3.
fn bound_integers(schema: &mut schemars::Schema) {
    let bounds = match schema.get("format").and_then(Value::as_str) {
        Some("int" | "int64" | "int128") => Some((-MAX_INTEGER, MAX_INTEGER)),
        Some("uint" | "uint64" | "uint128") => Some((0, MAX_INTEGER)),
        Some("int32") => Some((i32::MIN.into(), i32::MAX.into())),
        Some("uint32") => Some((0, u32::MAX.into())),
        Some("int8" | "uint8" | "int16" | "uint16" | "float" | "double") => None,
        _ => return,
    };
    schema.remove("format");
    if let Some((lowest, highest)) = bounds {
        let members = schema.ensure_object();
        members.entry("minimum").or_insert_with(|| json!(lowest));
        members.entry("maximum").or_insert_with(|| json!(highest));
    }
}

/// Lists the members of an object that may have none, without which the validator does not say which one it found.
fn list_no_properties(schema: &mut schemars::Schema) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
    }
}

fn schema_error(error: &ValidationError<'_>) -> SchemaError {
    SchemaError {
        path: echo(error.instance_path().as_str()),
        keyword: error.kind().keyword().to_owned(),
        message: sentence(error),
    }
}

/// The error as a sentence in which the value itself does not appear.
fn sentence(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!("the unknown member `{}`", echo(unexpected.first().map_or("", String::as_str)))
        }
        ValidationErrorKind::FalseSchema => "not allowed here".to_owned(),
        ValidationErrorKind::PropertyNames { error } => format!("the name of a member: {}", sentence(error)),
        _ => short(&error.masked_with("the value").to_string()),
    }
}

/// A sentence cut to a length that leaves room for 16 of them in a refusal.
fn short(sentence: &str) -> String {
    const MAX_SENTENCE: usize = 128;
    escape(sentence).chars().take(MAX_SENTENCE).collect()
}
