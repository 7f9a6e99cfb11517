//! The parser. `serde_json`'s own does not do: it takes a member twice, turns 2^64 into a float, does not say whether a
//! number was written as an integer, skips the UTF-8 of what it ignores, and allows another depth.

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::JsonError;
use crate::limits::{MAX_DEPTH, MAX_INTEGER, MAX_VALUES};
use crate::text::echo;

pub(super) fn parse(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark);
    }
    let mut parser = Parser { text, at: 0, values: 1 };
    parser.skip_white_space();
    match parser.peek() {
        Some(b'{') => {}
        Some(_) => return Err(JsonError::NotAnObject),
        None => return Err(JsonError::Syntax(parser.at)),
    }
    let object = parser.object(1)?;
    parser.skip_white_space();
    if parser.at == text.len() { Ok(object) } else { Err(JsonError::Trailing(parser.at)) }
}

/// One value of any kind, which is to stand at a depth; with an error the byte at which it was found.
pub(super) fn parse_value(bytes: &[u8], depth: usize) -> Result<Value, (JsonError, usize)> {
    let text = std::str::from_utf8(bytes).map_err(|error| (JsonError::NotUtf8, error.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err((JsonError::ByteOrderMark, 0));
    }
    let mut parser = Parser { text, at: 0, values: 0 };
    parser.skip_white_space();
    let value = parser.value(depth).map_err(|error| (error, parser.at))?;
    parser.skip_white_space();
    if parser.at == text.len() { Ok(value) } else { Err((JsonError::Trailing(parser.at), parser.at)) }
}

/// A place in a text, always at the start of a character.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// How many values have begun, the outermost object included.
    values: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(JsonError::TooManyValues);
        }
        match self.peek() {
            Some(b'{') => self.object(depth).map(Value::Object),
            Some(b'[') => self.array(depth).map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.syntax()),
        }
    }

    /// An object that stands at a depth.
    fn object(&mut self, depth: usize) -> Result<Map<String, Value>, JsonError> {
        let mut object = Map::new();
        self.items(b'{', b'}', depth, |parser| {
            let name = parser.string()?;
            parser.skip_white_space();
            parser.expect(b':')?;
            parser.skip_white_space();
            let value = parser.value(depth + 1)?;
            match object.entry(name) {
                Entry::Vacant(entry) => entry.insert(value),
                Entry::Occupied(entry) => return Err(JsonError::DuplicateMember(echo(entry.key()))),
            };
            Ok(())
        })?;
        Ok(object)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, JsonError> {
        let mut array = Vec::new();
        self.items(b'[', b']', depth, |parser| {
            array.push(parser.value(depth + 1)?);
            Ok(())
        })?;
        Ok(array)
    }

    /// What stands between an opening and a closing byte, separated by commas.
    fn items(
        &mut self,
        open: u8,
        close: u8,
        depth: usize,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.expect(open)?;
        self.skip_white_space();
        if self.eat(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            self.skip_white_space();
            if self.eat(close) {
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_white_space();
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            string.push_str(self.take_while(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\'));
            if self.eat(b'"') {
                return Ok(string);
            }
            self.expect(b'\\')?;
            string.push(self.escaped()?);
        }
    }

    /// The character that the rest of an escape sequence stands for.
    fn escaped(&mut self) -> Result<char, JsonError> {
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.escaped_by_number(),
            _ => return Err(self.syntax()),
        };
        self.at += 1;
        Ok(character)
    }

    fn escaped_by_number(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let first = self.utf16_unit()?;
        let second = if matches!(first, 0xd800..=0xdbff) && self.eat(b'\\') { Some(self.utf16_unit()?) } else { None };
        match char::decode_utf16([first].into_iter().chain(second)).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(JsonError::LoneSurrogate(start)),
        }
    }

    /// `u` and four hexadecimal digits.
    fn utf16_unit(&mut self) -> Result<u16, JsonError> {
        self.expect(b'u')?;
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).ok_or_else(|| self.syntax())?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        let integer_end = self.at;
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let token = self.text.get(start..self.at).unwrap_or_default();
        if self.at == integer_end {
            let in_range = |integer: &i64| (-MAX_INTEGER..=MAX_INTEGER).contains(integer);
            let integer = token.parse().ok().filter(in_range).ok_or(JsonError::IntegerOutOfRange)?;
            Ok(integer.into())
        } else {
            // Adding nothing turns −0 into 0 and leaves every other number as it is.
            let number = token.parse::<f64>().map_err(|_| self.syntax())? + 0.0;
            Number::from_f64(number).ok_or(JsonError::NotFinite)
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if self.take_while(|byte| byte.is_ascii_digit()).is_empty() { Err(self.syntax()) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        word.bytes().try_for_each(|byte| self.expect(byte))?;
        Ok(value)
    }

    fn skip_white_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// The longest piece from here on of bytes that are all wanted; a wanted byte is ASCII, or all above ASCII are.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.bytes().position(|byte| !wanted(byte)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.syntax()) }
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }
}
