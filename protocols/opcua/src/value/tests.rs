use opcua::types::{Array, QualifiedName};

use super::*;

fn of(variant: impl Into<Variant>) -> Value {
    Value::of(&variant.into(), None).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn scalars_keep_their_kind() {
    assert_eq!(of(true), Value::Bool(true));
    assert_eq!(of(-5_i8), Value::Signed(-5));
    assert_eq!(of(i64::MIN), Value::Signed(i64::MIN));
    assert_eq!(of(u64::MAX), Value::Unsigned(u64::MAX));
    assert_eq!(of(0.1_f32), Value::Single(0.1));
    assert_eq!(of(0.1_f64), Value::Float(0.1));
    assert_eq!(of("grün"), text("grün"));
    assert_eq!(of(Variant::String(UAString::null())), Value::Null);
    assert_eq!(of(ByteString::from(vec![1, 2, 255])), text("AQL/"));
    let name = QualifiedName::new(2, "Speed");
    assert_eq!(of(Variant::QualifiedName(Box::new(name))), text("Speed"));
    let label = LocalizedText::new("de", "Drehzahl");
    assert_eq!(
        of(Variant::LocalizedText(Box::new(label))),
        text("Drehzahl")
    );
    assert_eq!(of(Variant::Empty), Value::Null);
}

#[test]
fn times_are_milliseconds_and_none_is_null() {
    let time = DateTime::ymd_hms_nano(2025, 11, 13, 2, 24, 16, 123_000_000);
    assert_eq!(
        of(Variant::DateTime(Box::new(time))),
        Value::Signed(1_763_000_656_123)
    );
    assert_eq!(
        of(Variant::DateTime(Box::new(DateTime::null()))),
        Value::Null
    );
    assert_eq!(
        of(Variant::DateTime(Box::new(DateTime::endtimes()))),
        Value::Null
    );
    let back = coerce(
        &Value::Signed(1_763_000_656_123),
        VariantScalarTypeId::DateTime,
        false,
    );
    assert_eq!(back, Ok(Variant::DateTime(Box::new(time))));
}

#[test]
fn arrays_are_lists_and_matrices_lists_of_rows() {
    let list = |items: &[i64]| Value::List(items.iter().copied().map(Value::Signed).collect());
    assert_eq!(of(vec![1_i32, 2, 3]), list(&[1, 2, 3]));
    let values: Vec<Variant> = (1..=6_i32).map(Variant::from).collect();
    let matrix = Array::new_multi(VariantScalarTypeId::Int32, values, vec![2_u32, 3]).unwrap();
    let matrix = of(Variant::Array(Box::new(matrix)));
    assert_eq!(
        matrix,
        Value::List(vec![list(&[1, 2, 3]), list(&[4, 5, 6])])
    );
}

#[test]
fn dimensions_that_do_not_fit_are_ignored() {
    let items = vec![Value::Null; 6];
    for dimensions in [&[2, 0][..], &[u32::MAX, u32::MAX, u32::MAX], &[1, 4]] {
        assert_eq!(rows(items.clone(), dimensions), Value::List(items.clone()));
    }
}

#[test]
fn numbers_are_written_only_where_they_fit() {
    use VariantScalarTypeId as Kind;
    let fits = [
        (Value::Unsigned(255), Kind::Byte, Variant::Byte(255)),
        (Value::Signed(-128), Kind::SByte, Variant::SByte(-128)),
        (Value::Float(7.0), Kind::Int16, Variant::Int16(7)),
        (
            Value::Unsigned(u64::MAX),
            Kind::UInt64,
            Variant::UInt64(u64::MAX),
        ),
        (Value::Signed(3), Kind::Double, Variant::Double(3.0)),
        (Value::Float(0.1), Kind::Float, Variant::Float(0.1)),
        (Value::Bool(true), Kind::Boolean, Variant::Boolean(true)),
        (text("a"), Kind::String, Variant::from("a")),
    ];
    for (value, kind, expected) in fits {
        assert_eq!(coerce(&value, kind, false), Ok(expected));
    }
    let misfits = [
        (
            Value::Unsigned(256),
            Kind::Byte,
            "256 does not fit into Byte",
        ),
        (
            Value::Signed(-1),
            Kind::UInt64,
            "-1 does not fit into UInt64",
        ),
        (
            Value::Float(7.5),
            Kind::Int32,
            "7.5 does not fit into Int32",
        ),
        (
            Value::Float(1e300),
            Kind::Float,
            "1e+300 does not fit into Float",
        ),
        (
            Value::Float(f64::NAN),
            Kind::Double,
            "null does not fit into Double",
        ),
        (
            Value::Signed(1),
            Kind::Boolean,
            "1 does not fit into Boolean",
        ),
        (text("7"), Kind::Int32, "\"7\" does not fit into Int32"),
        (
            Value::List(vec![]),
            Kind::Int32,
            "a list of 0 does not fit into Int32",
        ),
        (
            Value::Signed(1),
            Kind::ExtensionObject,
            "1 does not fit into Structure",
        ),
    ];
    for (value, kind, expected) in misfits {
        let error = coerce(&value, kind, false).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let list = Value::List(vec![Value::Signed(1), Value::Signed(2)]);
    assert_eq!(
        coerce(&list, Kind::Int32, true),
        Ok(Variant::from(vec![1_i32, 2]))
    );
    assert!(coerce(&Value::Signed(1), Kind::Int32, true).is_err());
}
