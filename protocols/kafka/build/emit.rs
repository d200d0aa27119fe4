//! Writes the Rust code of the messages.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::model::{Api, Base, Field, Struct, Versions};

/// Where a structure stands: what its code depends on besides its fields.
pub struct Context<'a> {
    pub api: &'a Api,
    pub message: &'a Struct,
}

/// The enum of the APIs with its tables.
pub fn api_keys(apis: &[Api]) -> String {
    let mut variants = String::new();
    let mut versions = String::new();
    let mut flexible = String::new();
    let mut names = String::new();
    for api in apis {
        let Api { name, key, doc, .. } = api;
        let Versions { min, max } = api.versions;
        line(&mut variants, &format!("/// {doc}\n{name} = {key},"));
        line(&mut versions, &format!("Self::{name} => {min}..={max},"));
        let from = match api.flexible_from {
            Some(from) => format!("Some({from})"),
            None => "None".into(),
        };
        line(&mut flexible, &format!("Self::{name} => {from},"));
        line(&mut names, &format!("Self::{name} => \"{name}\","));
    }
    let all: Vec<String> = apis
        .iter()
        .map(|api| format!("Self::{}", api.name))
        .collect();
    let all = all.join(", ");
    format!(
        "/// The APIs that this codec knows, by Kafka's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum ApiKey {{ {variants} }}
impl ApiKey {{
    /// Every API of this codec, by number.
    pub const ALL: &'static [Self] = &[{all}];
    /// The versions that this codec reads and writes.
    pub fn versions(self) -> std::ops::RangeInclusive<i16> {{ match self {{ {versions} }} }}
    /// The API's name in Kafka.
    pub fn name(self) -> &'static str {{ match self {{ {names} }} }}
    fn flexible_from(self) -> Option<i16> {{ match self {{ {flexible} }} }}
}}
"
    )
}

/// A macro that binds a request type by API key.
pub fn with_request(apis: &[Api]) -> String {
    let mut arms = String::new();
    for Api { name, .. } in apis {
        line(
            &mut arms,
            &format!(
                "$crate::ApiKey::{name} => {{ type $name = $crate::messages::{name}Request; $body }}"
            ),
        );
    }
    format!(
        "/// Evaluates an expression with `$name` bound to the request type of an [`ApiKey`].
#[macro_export]
macro_rules! with_request {{
    ($key:expr, $name:ident => $body:expr) => {{ match $key {{ {arms} }} }};
}}
"
    )
}

/// All messages, one module each, and re-exports of the names that are unique.
pub fn messages(apis: &[Api]) -> String {
    let mut out = String::new();
    let mut exports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for api in apis {
        for message in [&api.request, &api.response] {
            let module = snake(&message.name);
            line(
                &mut out,
                &format!("/// `{}`: {}\npub mod {module} {{", message.name, api.doc),
            );
            let context = Context { api, message };
            let mut structs = Vec::new();
            collect(message, &mut structs);
            for structure in structs {
                emit_struct(&mut out, &context, structure);
                exports
                    .entry(&structure.name)
                    .or_default()
                    .push(module.clone());
            }
            line(&mut out, "}");
        }
        let Api { name, .. } = api;
        line(
            &mut out,
            &format!(
                "impl crate::Request for {name}Request {{
    const KEY: crate::ApiKey = crate::ApiKey::{name};
    type Response = {name}Response;
}}"
            ),
        );
    }
    for (name, modules) in exports {
        if let [module] = &modules[..] {
            line(&mut out, &format!("pub use {module}::{name};"));
        }
    }
    out
}

/// Lists a structure and the structures within it.
pub fn collect<'a>(structure: &'a Struct, into: &mut Vec<&'a Struct>) {
    into.push(structure);
    for field in &structure.fields {
        if let Base::Struct(inner) = &field.base {
            collect(inner, into);
        }
    }
}

/// `ProduceRequest` to `produce_request`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn emit_struct(out: &mut String, context: &Context<'_>, structure: &Struct) {
    let Context { api, message } = context;
    let name = &structure.name;
    if std::ptr::eq(structure, *message) {
        line(out, &format!("/// {}", api.doc));
    } else {
        line(out, &format!("/// `{name}` within [`{}`].", message.name));
    }
    let derived = structure.fields.iter().all(|field| field.default.is_none());
    let default = if derived { ", Default" } else { "" };
    line(out, &format!("#[derive(Debug, Clone, PartialEq{default})]"));
    line(out, &format!("pub struct {name} {{"));
    for field in &structure.fields {
        let versions = field.versions.describe(api.versions);
        let tag = field
            .tag
            .map_or(String::new(), |tag| format!(", tag {tag}"));
        line(out, &format!("/// In {versions}{tag}."));
        line(out, &format!("pub {}: {},", field.name, field.rust()));
    }
    if api.flexible_from.is_some() {
        line(
            out,
            "/// Tagged fields that this codec does not know, in flexible versions.",
        );
        line(out, "pub unknown_tagged_fields: Vec<(u32, bytes::Bytes)>,");
    }
    line(out, "}");
    if !derived {
        emit_default(out, api, structure);
    }
    line(out, &format!("impl crate::Message for {name} {{"));
    emit_decode(out, context, structure);
    emit_encode(out, context, structure);
    line(out, "}");
}

fn emit_default(out: &mut String, api: &Api, structure: &Struct) {
    line(out, &format!("impl Default for {} {{", structure.name));
    line(out, "fn default() -> Self { Self {");
    for field in &structure.fields {
        line(out, &format!("{}: {},", field.name, field.default_value()));
    }
    if api.flexible_from.is_some() {
        line(out, "unknown_tagged_fields: Vec::new(),");
    }
    line(out, "} } }");
}

/// The lines that every generated function begins with.
pub fn preamble(out: &mut String, context: &Context<'_>, structure: &Struct, error: &str) {
    let Versions { min, max } = context.api.versions;
    if std::ptr::eq(structure, context.message) && !error.is_empty() {
        line(
            out,
            &format!(
                "if !({min}..={max}).contains(&version) {{
    return Err(crate::{error}::Version {{ version, min: {min}, max: {max} }});
}}"
            ),
        );
    }
    match context.api.flexible_from {
        Some(from) if from > min => line(out, &format!("let flexible = version >= {from};")),
        Some(_) => line(out, "let flexible = true;"),
        None => line(out, "let flexible = false;"),
    }
    line(out, "let _ = (version, flexible);");
}

fn emit_decode(out: &mut String, context: &Context<'_>, structure: &Struct) {
    let api = context.api;
    line(
        out,
        "fn decode(reader: &mut crate::Reader, version: i16) -> Result<Self, crate::DecodeError> {",
    );
    preamble(out, context, structure, "DecodeError");
    let mut known = String::new();
    for field in &structure.fields {
        let (name, kind) = (&field.name, field.rust());
        let value = decode_value(field);
        let default = field.default_value();
        match (field.tag, field.versions.condition(api.versions)) {
            (Some(tag), condition) => {
                line(out, &format!("let mut {name}: {kind} = {default};"));
                let guard = condition.map_or(String::new(), |c| format!(" if {c}"));
                line(&mut known, &format!("{tag}{guard} => {name} = {value},"));
            }
            (None, Some(condition)) => line(
                out,
                &format!("let {name}: {kind} = if {condition} {{ {value} }} else {{ {default} }};"),
            ),
            (None, None) => line(out, &format!("let {name}: {kind} = {value};")),
        }
        emit_null_check(out, api, field);
    }
    if api.flexible_from.is_some() {
        let visit = if known.is_empty() {
            "|_, _| Ok(false)".to_owned()
        } else {
            format!("|tag, reader| {{ match tag {{ {known} _ => return Ok(false) }} Ok(true) }}")
        };
        line(
            out,
            &format!(
                "let unknown_tagged_fields = if flexible {{ reader.tagged_fields({visit})? }} \
                 else {{ Vec::new() }};"
            ),
        );
    }
    let mut names: Vec<&str> = structure.fields.iter().map(|f| f.name.as_str()).collect();
    if api.flexible_from.is_some() {
        names.push("unknown_tagged_fields");
    }
    line(out, &format!("Ok(Self {{ {} }})\n}}", names.join(", ")));
}

/// Refuses null in the versions of a nullable field that do not allow it.
fn emit_null_check(out: &mut String, api: &Api, field: &Field) {
    let Some(nullable) = field.nullable else {
        return;
    };
    if nullable == field.versions || field.versions.min >= nullable.min {
        return;
    }
    let present = field.versions.condition(api.versions);
    let present = present.map_or(String::new(), |c| format!(" && {c}"));
    line(
        out,
        &format!(
            "if {}.is_none() && version < {}{present} {{ return Err(crate::DecodeError::Null); }}",
            field.name, nullable.min
        ),
    );
}

fn decode_value(field: &Field) -> String {
    let nullable = if field.nullable.is_some() {
        "nullable_"
    } else {
        ""
    };
    if field.is_array {
        let element = decode_base(&field.base, "");
        return format!("reader.{nullable}array(flexible, |reader| {element})?");
    }
    decode_base(&field.base, nullable) + "?"
}

fn decode_base(base: &Base, nullable: &str) -> String {
    match base {
        Base::Bool => "reader.bool()".into(),
        Base::Int8 => "reader.i8()".into(),
        Base::Int16 => "reader.i16()".into(),
        Base::Int32 => "reader.i32()".into(),
        Base::Int64 => "reader.i64()".into(),
        Base::Uuid => "reader.uuid()".into(),
        Base::Str => format!("reader.{nullable}string(flexible)"),
        Base::Bytes => format!("reader.{nullable}bytes(flexible)"),
        Base::Struct(inner) => format!(
            "<{} as crate::Message>::decode(reader, version)",
            inner.name
        ),
    }
}

fn emit_encode(out: &mut String, context: &Context<'_>, structure: &Struct) {
    let api = context.api;
    line(
        out,
        "fn encode(&self, out: &mut bytes::BytesMut, version: i16) -> Result<(), crate::EncodeError> {",
    );
    preamble(out, context, structure, "EncodeError");
    let mut known = String::new();
    for field in &structure.fields {
        let name = &field.name;
        let condition = field.versions.condition(api.versions);
        if let Some(tag) = field.tag {
            let condition = condition.map_or(String::new(), |c| format!("{c} && "));
            let (kind, default) = (field.rust(), field.default_value());
            let value = encode_value(field);
            line(
                &mut known,
                &format!(
                    "let default: {kind} = {default};
if {condition}self.{name} != default {{
    let mut value = bytes::BytesMut::new();
    {{ let out = &mut value; {value} }}
    known.push(({tag}, value.freeze()));
}}"
                ),
            );
            continue;
        }
        let mut value = String::new();
        if let Some(nullable) = field.nullable
            && nullable.min > field.versions.min
        {
            line(
                &mut value,
                &format!(
                    "if self.{name}.is_none() && version < {} {{
    return Err(crate::EncodeError::Null {{ field: \"{name}\", version }});
}}",
                    nullable.min
                ),
            );
        }
        value.push_str(&encode_value(field));
        match condition {
            Some(condition) => line(out, &format!("if {condition} {{ {value} }}")),
            None => line(out, &value),
        }
    }
    if api.flexible_from.is_some() {
        line(out, "if flexible {");
        if known.is_empty() {
            line(out, "let known = Vec::new();");
        } else {
            line(out, &format!("let mut known = Vec::new();\n{known}"));
        }
        line(
            out,
            "crate::write::tagged_fields(out, known, &self.unknown_tagged_fields)?;\n}",
        );
    }
    line(out, "Ok(())\n}");
}

fn encode_value(field: &Field) -> String {
    let name = &field.name;
    if field.is_array {
        let element = encode_base(&field.base, "element", false);
        let function = if field.nullable.is_some() {
            format!("nullable_array(out, flexible, self.{name}.as_deref()")
        } else {
            format!("array(out, flexible, &self.{name}")
        };
        return format!("crate::write::{function}, |out, element| {{ {element} Ok(()) }})?;");
    }
    encode_base(
        &field.base,
        &format!("&self.{name}"),
        field.nullable.is_some(),
    )
}

fn encode_base(base: &Base, value: &str, is_nullable: bool) -> String {
    let by_value = match value.strip_prefix('&') {
        Some(path) => path.to_owned(),
        None => format!("*{value}"),
    };
    let nullable = if is_nullable { "nullable_" } else { "" };
    let by_option = if is_nullable {
        format!("{by_value}.as_ref()")
    } else {
        value.to_owned()
    };
    match base {
        Base::Bool => format!("bytes::BufMut::put_u8(out, u8::from({by_value}));"),
        Base::Int8 => format!("bytes::BufMut::put_i8(out, {by_value});"),
        Base::Int16 => format!("bytes::BufMut::put_i16(out, {by_value});"),
        Base::Int32 => format!("bytes::BufMut::put_i32(out, {by_value});"),
        Base::Int64 => format!("bytes::BufMut::put_i64(out, {by_value});"),
        Base::Uuid => format!("bytes::BufMut::put_slice(out, {value});"),
        Base::Str => format!("crate::write::{nullable}string(out, flexible, {by_option})?;"),
        Base::Bytes => format!("crate::write::{nullable}bytes(out, flexible, {by_option})?;"),
        Base::Struct(_) => format!("crate::Message::encode({value}, out, version)?;"),
    }
}

/// Appends a line.
pub fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string grows");
}
