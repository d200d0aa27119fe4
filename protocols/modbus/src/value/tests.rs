use proptest::prelude::*;

use super::{ByteOrder, DataType, EncodeError, Encoding, Stored, Value, half};

/// Where the bytes of a big-endian number lie on the wire: position by
/// position, the index of the byte, 0 the highest. Written out by hand, so
/// that it is no second copy of the code.
fn layout(order: ByteOrder, size: usize) -> &'static [usize] {
    match (order, size) {
        (ByteOrder::Abcd | ByteOrder::Cdab, 2) => &[0, 1],
        (ByteOrder::Badc | ByteOrder::Dcba, 2) => &[1, 0],
        (ByteOrder::Abcd, 4) => &[0, 1, 2, 3],
        (ByteOrder::Dcba, 4) => &[3, 2, 1, 0],
        (ByteOrder::Badc, 4) => &[1, 0, 3, 2],
        (ByteOrder::Cdab, 4) => &[2, 3, 0, 1],
        (ByteOrder::Abcd, 8) => &[0, 1, 2, 3, 4, 5, 6, 7],
        (ByteOrder::Dcba, 8) => &[7, 6, 5, 4, 3, 2, 1, 0],
        (ByteOrder::Badc, 8) => &[1, 0, 3, 2, 5, 4, 7, 6],
        (ByteOrder::Cdab, 8) => &[6, 7, 4, 5, 2, 3, 0, 1],
        _ => panic!("no number has {size} bytes"),
    }
}

/// An independent encoder: the bytes on the wire of a big-endian number.
fn on_wire(order: ByteOrder, big_endian: &[u8]) -> Vec<u8> {
    let places = layout(order, big_endian.len());
    places.iter().map(|index| big_endian[*index]).collect()
}

fn encoding(kind: DataType, order: ByteOrder) -> Encoding {
    Encoding {
        order,
        ..Encoding::plain(kind)
    }
}

fn wire_of(stored: &Stored) -> Vec<u8> {
    match stored {
        Stored::Registers(words) => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        other => panic!("expected registers, got {other:?}"),
    }
}

fn orders() -> impl Strategy<Value = ByteOrder> {
    prop::sample::select(ByteOrder::ALL.to_vec())
}

fn check(kind: DataType, order: ByteOrder, big_endian: &[u8], value: &Value) {
    let wire = on_wire(order, big_endian);
    let encoding = encoding(kind, order);
    assert_eq!(encoding.decode(&wire).as_ref(), Some(value), "{kind}");
    assert_eq!(wire_of(&encoding.encode(value).unwrap()), wire, "{kind}");
    assert_eq!(encoding.decode(&wire[..wire.len() - 1]), None, "{kind}");
}

proptest! {
    #[test]
    fn whole_numbers_of_every_size_and_order(order in orders(), n in any::<u64>()) {
        let bytes = n.to_be_bytes();
        check(DataType::Uint64, order, &bytes, &Value::Unsigned(n));
        check(DataType::Int64, order, &bytes, &Value::Signed(n as i64));
        check(DataType::Uint32, order, &bytes[4..], &Value::Unsigned(u64::from(n as u32)));
        check(DataType::Int32, order, &bytes[4..], &Value::Signed(i64::from(n as i32)));
        check(DataType::Uint16, order, &bytes[6..], &Value::Unsigned(u64::from(n as u16)));
        check(DataType::Int16, order, &bytes[6..], &Value::Signed(i64::from(n as i16)));
    }

    #[test]
    fn fractions_of_every_size_and_order(order in orders(), double in any::<f64>(), single in any::<f32>()) {
        prop_assume!(!double.is_nan() && !single.is_nan());
        check(DataType::Float64, order, &double.to_be_bytes(), &Value::Float(double));
        let wire = on_wire(order, &single.to_be_bytes());
        let encoding = encoding(DataType::Float32, order);
        let Some(Value::Float(read)) = encoding.decode(&wire) else {
            panic!("a float");
        };
        // What people see is the shortest number that means the same.
        assert_eq!(read.to_string(), single.to_string());
        assert_eq!(wire_of(&encoding.encode(&Value::Float(read)).unwrap()), wire);
    }

    #[test]
    fn half_precision_reads_back(bits in any::<u16>(), order in orders()) {
        let number = half::to_f32(bits);
        prop_assume!(!number.is_nan());
        check(DataType::Float16, order, &bits.to_be_bytes(), &Value::Float(f64::from(number)));
    }

    #[test]
    fn scaled_numbers_read_back(raw in any::<i16>(), scale in prop::sample::select(vec![0.1, 0.01, 0.5, 2.0, 10.0, -0.1, 0.003]), offset in -100.0f64..100.0) {
        let encoding = Encoding { scale, offset, ..Encoding::plain(DataType::Int16) };
        let value = encoding.decode(&raw.to_be_bytes()).unwrap();
        let Value::Float(number) = value else { panic!("a float") };
        prop_assert!((number - (f64::from(raw) * scale + offset)).abs() < 1e-6);
        assert_eq!(wire_of(&encoding.encode(&value).unwrap()), raw.to_be_bytes());
    }

    #[test]
    fn texts_read_back(text in "[a-zA-Z0-9äß]{0,10}", order in orders()) {
        let encoding = encoding(DataType::Text(10), order);
        let value = Value::Text(text.as_str().into());
        let wire = wire_of(&encoding.encode(&value).unwrap());
        let mut expected = text.clone().into_bytes();
        expected.resize(20, 0);
        if matches!(order, ByteOrder::Badc | ByteOrder::Dcba) {
            expected.chunks_mut(2).for_each(|pair| pair.reverse());
        }
        prop_assert_eq!(&wire, &expected);
        prop_assert_eq!(encoding.decode(&wire), Some(value));
    }

    #[test]
    fn any_bytes_decode_to_something(data in prop::collection::vec(any::<u8>(), 0..40), order in orders(), length in 1u16..20) {
        let kinds = DataType::NUMBERS.into_iter().chain([DataType::Text(length), DataType::Bit(15), DataType::Bool]);
        for kind in kinds {
            let read = encoding(kind, order).decode(&data);
            assert_eq!(read.is_some(), data.len() >= usize::from(kind.registers()) * 2);
        }
    }
}

#[test]
fn bits_and_bytes_of_a_register_ignore_the_byte_order() {
    for order in ByteOrder::ALL {
        let read = |kind| encoding(kind, order).decode(&[0xFE, 0x01]).unwrap();
        assert_eq!(read(DataType::Int8High), Value::Signed(-2));
        assert_eq!(read(DataType::Uint8High), Value::Unsigned(254));
        assert_eq!(read(DataType::Int8Low), Value::Signed(1));
        assert_eq!(read(DataType::Uint8Low), Value::Unsigned(1));
        assert_eq!(read(DataType::Bit(0)), Value::Bool(true));
        assert_eq!(read(DataType::Bit(1)), Value::Bool(false));
        assert_eq!(read(DataType::Bit(15)), Value::Bool(true));
    }
}

#[test]
fn bits_and_bytes_are_written_without_their_neighbours() {
    let write = |kind, value| Encoding::plain(kind).encode(&value);
    assert_eq!(
        write(DataType::Bit(3), Value::Bool(true)),
        Ok(Stored::Bits {
            and: 0xFFF7,
            or: 0x0008
        })
    );
    assert_eq!(
        write(DataType::Bit(15), Value::Bool(false)),
        Ok(Stored::Bits { and: 0x7FFF, or: 0 })
    );
    assert_eq!(
        write(DataType::Int8High, Value::Signed(-2)),
        Ok(Stored::Bits {
            and: 0x00FF,
            or: 0xFE00
        })
    );
    assert_eq!(
        write(DataType::Uint8Low, Value::Unsigned(7)),
        Ok(Stored::Bits { and: 0xFF00, or: 7 })
    );
    assert_eq!(
        write(DataType::Bool, Value::Bool(true)),
        Ok(Stored::Coil(true))
    );
}

#[test]
fn a_tenth_looks_like_a_tenth() {
    let tenth = Encoding {
        scale: 0.1,
        ..Encoding::plain(DataType::Int16)
    };
    for (raw, expected) in [(3, "0.3"), (213, "21.3"), (-7, "-0.7"), (10, "1")] {
        let value = tenth.decode(&i16::to_be_bytes(raw)).unwrap();
        assert_eq!(value.to_string(), expected);
    }
}

#[test]
fn half_precision_vectors() {
    // From the table of examples in the Wikipedia article "Half-precision
    // floating-point format".
    for (bits, number) in [
        (0x0001, 5.960_464_5e-8),
        (0x03FF, 6.097_555e-5),
        (0x0400, 6.103_515_6e-5),
        (0x3555, 0.333_251_95),
        (0x3BFF, 0.999_511_7),
        (0x3C00, 1.0),
        (0x3C01, 1.000_976_6),
        (0x7BFF, 65_504.0),
        (0x7C00, f32::INFINITY),
        (0xC000, -2.0),
    ] {
        assert_eq!(half::to_f32(bits), number, "{bits:#06x}");
    }
    assert_eq!(half::from_f64(65_519.9), Some(0x7BFF));
    assert_eq!(half::from_f64(65_520.0), None);
    assert_eq!(half::from_f64(1.0 + 1.0 / 2_048.0), Some(0x3C00));
    assert_eq!(half::from_f64(1.0 + 3.0 / 2_048.0), Some(0x3C02));
}

#[test]
fn what_does_not_fit_is_refused() {
    let write = |kind, value| Encoding::plain(kind).encode(&value);
    let range = |value: &str, kind| {
        Err(EncodeError::Range {
            value: value.to_owned(),
            kind,
        })
    };
    assert_eq!(
        write(DataType::Int16, Value::Signed(32_768)),
        range("32768", DataType::Int16)
    );
    assert_eq!(
        write(DataType::Uint16, Value::Signed(-1)),
        range("-1", DataType::Uint16)
    );
    assert_eq!(
        write(DataType::Uint16, Value::Float(1.5)),
        range("1.5", DataType::Uint16)
    );
    assert_eq!(
        write(DataType::Uint64, Value::Float(f64::NAN)),
        range("NaN", DataType::Uint64)
    );
    assert_eq!(
        write(DataType::Float32, Value::Float(1e39)),
        range("1e39", DataType::Float32).map_err(|_: EncodeError| EncodeError::Range {
            value: 1e39f64.to_string(),
            kind: DataType::Float32
        })
    );
    assert!(matches!(
        write(DataType::Int16, Value::Text("1".into())),
        Err(EncodeError::Kind { .. })
    ));
    assert!(matches!(
        write(DataType::Bit(0), Value::Signed(1)),
        Err(EncodeError::Kind { .. })
    ));
    assert!(matches!(
        write(DataType::Text(1), Value::Text("abc".into())),
        Err(EncodeError::TextSize { max: 2, .. })
    ));
    assert_eq!(
        write(DataType::Uint16, Value::Float(7.0)),
        Ok(Stored::Registers(vec![7]))
    );
}

#[test]
fn texts_end_at_nul_and_lose_their_padding() {
    let read = |order, data: &[u8]| encoding(DataType::Text(3), order).decode(data).unwrap();
    assert_eq!(read(ByteOrder::Abcd, b"ab\0xyz"), Value::Text("ab".into()));
    assert_eq!(read(ByteOrder::Cdab, b"abc   "), Value::Text("abc".into()));
    assert_eq!(
        read(ByteOrder::Dcba, b"badcfe"),
        Value::Text("abcdef".into())
    );
    assert_eq!(
        read(ByteOrder::Abcd, b"12\xB0C\0\0"),
        Value::Text("12°C".into())
    );
}

#[test]
fn names_read_back() {
    for kind in DataType::NUMBERS.into_iter().chain([DataType::Bool]) {
        assert_eq!(DataType::from_name(&kind.to_string()), Some(kind));
    }
    for order in ByteOrder::ALL {
        assert_eq!(ByteOrder::from_name(order.name()), Some(order));
    }
    assert_eq!(DataType::from_name("STRING"), None);
    assert_eq!(DataType::from_name("float32"), None);
}
