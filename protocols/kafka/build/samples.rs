//! Writes random instances of the messages for this crate's own tests.

use super::emit::{Context, collect, line, preamble, snake};
use super::model::{Api, Base, Field, Struct};

/// An implementation of `Sample` for every structure.
pub fn samples(apis: &[Api]) -> String {
    let mut out = String::new();
    for api in apis {
        for message in [&api.request, &api.response] {
            let context = Context { api, message };
            let mut structs = Vec::new();
            collect(message, &mut structs);
            for structure in structs {
                emit(&mut out, &context, structure);
            }
        }
    }
    out
}

fn emit(out: &mut String, context: &Context<'_>, structure: &Struct) {
    let api = context.api;
    let module = snake(&context.message.name);
    let name = &structure.name;
    line(
        out,
        &format!(
            "impl crate::sample::Sample for crate::messages::{module}::{name} {{
fn sample(source: &mut crate::sample::Source, version: i16) -> Self {{"
        ),
    );
    preamble(out, context, structure, "");
    line(out, "Self {");
    for field in &structure.fields {
        let value = value(field);
        let value = match field.versions.condition(api.versions) {
            Some(condition) => {
                let default = field.default_value();
                format!("if {condition} {{ {value} }} else {{ {default} }}")
            }
            None => value,
        };
        line(out, &format!("{}: {value},", field.name));
    }
    if api.flexible_from.is_some() {
        line(
            out,
            "unknown_tagged_fields: if flexible { source.tagged_fields() } else { Vec::new() },",
        );
    }
    line(out, "} } }");
}

fn value(field: &Field) -> String {
    let mut text = match &field.base {
        Base::Bool => "source.bool()".into(),
        Base::Int8 => "source.number() as i8".into(),
        Base::Int16 => "source.number() as i16".into(),
        Base::Int32 => "source.number() as i32".into(),
        Base::Int64 => "source.number()".into(),
        Base::Uuid => "source.uuid()".into(),
        Base::Str => "source.string()".into(),
        Base::Bytes => "source.bytes()".into(),
        Base::Struct(_) => "crate::sample::Sample::sample(source, version)".to_owned(),
    };
    if field.is_array {
        text = format!("source.array(|source| {text})");
    }
    if let Some(nullable) = field.nullable {
        text = format!(
            "if version >= {} && source.bool() {{ None }} else {{ Some({text}) }}",
            nullable.min
        );
    }
    text
}
