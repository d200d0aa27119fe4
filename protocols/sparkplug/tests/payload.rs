//! The payload reader and writer against prost, an independent protobuf
//! implementation, and against hostile bytes.

use forebay_sparkplug::{
    DataSet, DecodeError, Metric, Parameter, Payload, Property, PropertyValue, RawValue, Template,
    with_timestamp,
};
use proptest::prelude::*;
use prost::Message;

/// The messages of section 6.4.1, as prost sees them.
mod peer {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub struct Payload {
        #[prost(uint64, optional, tag = "1")]
        pub timestamp: Option<u64>,
        #[prost(message, repeated, tag = "2")]
        pub metrics: Vec<Metric>,
        #[prost(uint64, optional, tag = "3")]
        pub seq: Option<u64>,
        #[prost(string, optional, tag = "4")]
        pub uuid: Option<String>,
        #[prost(bytes = "vec", optional, tag = "5")]
        pub body: Option<Vec<u8>>,
        /// Of a later version: unknown to the reader.
        #[prost(string, optional, tag = "900")]
        pub later: Option<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metric {
        #[prost(string, optional, tag = "1")]
        pub name: Option<String>,
        #[prost(uint64, optional, tag = "2")]
        pub alias: Option<u64>,
        #[prost(uint64, optional, tag = "3")]
        pub timestamp: Option<u64>,
        #[prost(uint32, optional, tag = "4")]
        pub datatype: Option<u32>,
        #[prost(bool, optional, tag = "5")]
        pub is_historical: Option<bool>,
        #[prost(bool, optional, tag = "6")]
        pub is_transient: Option<bool>,
        #[prost(bool, optional, tag = "7")]
        pub is_null: Option<bool>,
        #[prost(message, optional, tag = "9")]
        pub properties: Option<PropertySet>,
        #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18")]
        pub value: Option<Value>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        #[prost(uint32, tag = "10")]
        Int(u32),
        #[prost(uint64, tag = "11")]
        Long(u64),
        #[prost(float, tag = "12")]
        Float(f32),
        #[prost(double, tag = "13")]
        Double(f64),
        #[prost(bool, tag = "14")]
        Boolean(bool),
        #[prost(string, tag = "15")]
        String(String),
        #[prost(bytes, tag = "16")]
        Bytes(Vec<u8>),
        #[prost(message, tag = "17")]
        DataSet(DataSet),
        #[prost(message, tag = "18")]
        Template(Template),
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct DataSet {
        #[prost(uint64, optional, tag = "1")]
        pub column_count: Option<u64>,
        #[prost(string, repeated, tag = "2")]
        pub columns: Vec<String>,
        #[prost(uint32, repeated, packed = "false", tag = "3")]
        pub types: Vec<u32>,
        #[prost(message, repeated, tag = "4")]
        pub rows: Vec<Row>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Row {
        #[prost(message, repeated, tag = "1")]
        pub cells: Vec<Cell>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Cell {
        #[prost(oneof = "CellValue", tags = "1, 4, 5, 6")]
        pub value: Option<CellValue>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub enum CellValue {
        #[prost(uint32, tag = "1")]
        Int(u32),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(bool, tag = "5")]
        Boolean(bool),
        #[prost(string, tag = "6")]
        String(String),
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Template {
        #[prost(string, optional, tag = "1")]
        pub version: Option<String>,
        #[prost(message, repeated, tag = "2")]
        pub metrics: Vec<Metric>,
        #[prost(message, repeated, tag = "3")]
        pub parameters: Vec<Parameter>,
        #[prost(string, optional, tag = "4")]
        pub template_ref: Option<String>,
        #[prost(bool, optional, tag = "5")]
        pub is_definition: Option<bool>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Parameter {
        #[prost(string, optional, tag = "1")]
        pub name: Option<String>,
        #[prost(uint32, optional, tag = "2")]
        pub datatype: Option<u32>,
        #[prost(double, optional, tag = "6")]
        pub double: Option<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PropertySet {
        #[prost(string, repeated, tag = "1")]
        pub keys: Vec<String>,
        #[prost(message, repeated, tag = "2")]
        pub values: Vec<PropertyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PropertyValue {
        #[prost(uint32, optional, tag = "1")]
        pub datatype: Option<u32>,
        #[prost(bool, optional, tag = "2")]
        pub is_null: Option<bool>,
        #[prost(string, optional, tag = "8")]
        pub string: Option<String>,
        #[prost(message, optional, tag = "9")]
        pub set: Option<PropertySet>,
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé/ ]{0,12}"
}

fn peer_properties() -> impl Strategy<Value = peer::PropertySet> {
    let value =
        (any::<Option<u32>>(), proptest::option::of(text())).prop_map(|(datatype, string)| {
            peer::PropertyValue {
                datatype,
                is_null: string.is_none().then_some(true),
                string,
                set: None,
            }
        });
    let leaf = proptest::collection::vec((text(), value), 1..3).prop_map(set_of);
    leaf.prop_recursive(2, 6, 3, |inner| {
        let nested = inner.prop_map(|set| peer::PropertyValue {
            datatype: Some(20),
            is_null: None,
            string: None,
            set: Some(set),
        });
        proptest::collection::vec((text(), nested), 1..3).prop_map(set_of)
    })
}

fn set_of(pairs: Vec<(String, peer::PropertyValue)>) -> peer::PropertySet {
    let (keys, values) = pairs.into_iter().unzip();
    peer::PropertySet { keys, values }
}

fn peer_data_set() -> impl Strategy<Value = peer::DataSet> {
    let cell = proptest::option::of(prop_oneof![
        any::<u32>().prop_map(peer::CellValue::Int),
        (-1e9..1e9f64).prop_map(peer::CellValue::Double),
        any::<bool>().prop_map(peer::CellValue::Boolean),
        text().prop_map(peer::CellValue::String),
    ])
    .prop_map(|value| peer::Cell { value });
    let row = proptest::collection::vec(cell, 0..4).prop_map(|cells| peer::Row { cells });
    (
        any::<Option<u64>>(),
        proptest::collection::vec(text(), 0..4),
        proptest::collection::vec(any::<u32>(), 0..4),
        proptest::collection::vec(row, 0..3),
    )
        .prop_map(|(column_count, columns, types, rows)| peer::DataSet {
            column_count,
            columns,
            types,
            rows,
        })
}

fn metric_with(
    value: impl Strategy<Value = Option<peer::Value>>,
) -> impl Strategy<Value = peer::Metric> {
    let flag = || proptest::option::of(Just(true));
    (
        proptest::option::of(text()),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        any::<Option<u32>>(),
        (flag(), flag(), flag()),
        proptest::option::of(peer_properties()),
        value,
    )
        .prop_map(
            |(name, alias, timestamp, datatype, flags, properties, value)| peer::Metric {
                name,
                alias,
                timestamp,
                datatype,
                is_historical: flags.0,
                is_transient: flags.1,
                is_null: flags.2,
                properties,
                value,
            },
        )
}

fn peer_metric() -> impl Strategy<Value = peer::Metric> {
    let value = prop_oneof![
        any::<u32>().prop_map(peer::Value::Int),
        any::<u64>().prop_map(peer::Value::Long),
        (-1e9..1e9f32).prop_map(peer::Value::Float),
        (-1e9..1e9f64).prop_map(peer::Value::Double),
        any::<bool>().prop_map(peer::Value::Boolean),
        text().prop_map(peer::Value::String),
        any::<Vec<u8>>().prop_map(peer::Value::Bytes),
        peer_data_set().prop_map(peer::Value::DataSet),
    ];
    let leaf = metric_with(proptest::option::of(value)).boxed();
    leaf.prop_recursive(3, 12, 3, |inner| {
        let parameter = (
            proptest::option::of(text()),
            proptest::option::of(-1e9..1e9f64),
        );
        let parameter = parameter.prop_map(|(name, double)| peer::Parameter {
            name,
            datatype: Some(10),
            double,
        });
        let template = (
            proptest::option::of(text()),
            proptest::collection::vec(inner, 0..3),
            proptest::collection::vec(parameter, 0..2),
            proptest::option::of(Just(true)),
        );
        let template = template.prop_map(|(text, metrics, parameters, is_definition)| {
            Some(peer::Value::Template(peer::Template {
                version: text.clone(),
                metrics,
                parameters,
                template_ref: text,
                is_definition,
            }))
        });
        metric_with(template)
    })
}

fn peer_payload() -> impl Strategy<Value = peer::Payload> {
    (
        any::<Option<u64>>(),
        proptest::collection::vec(peer_metric(), 0..4),
        any::<Option<u64>>(),
        proptest::option::of(text()),
        any::<Option<Vec<u8>>>(),
        proptest::option::of(text()),
    )
        .prop_map(
            |(timestamp, metrics, seq, uuid, body, later)| peer::Payload {
                timestamp,
                metrics,
                seq,
                uuid,
                body,
                later,
            },
        )
}

fn ours(payload: &peer::Payload) -> Payload<'_> {
    Payload {
        timestamp: payload.timestamp,
        metrics: payload.metrics.iter().map(our_metric).collect(),
        seq: payload.seq,
        uuid: payload.uuid.as_deref(),
        body: payload.body.as_deref(),
    }
}

fn our_metric(metric: &peer::Metric) -> Metric<'_> {
    Metric {
        name: metric.name.as_deref(),
        alias: metric.alias,
        timestamp: metric.timestamp,
        datatype: metric.datatype,
        is_historical: metric.is_historical == Some(true),
        is_transient: metric.is_transient == Some(true),
        is_null: metric.is_null == Some(true),
        properties: metric.properties.as_ref().map(our_set).unwrap_or_default(),
        value: metric.value.as_ref().map(|value| match value {
            peer::Value::Int(bits) => RawValue::Int(*bits),
            peer::Value::Long(bits) => RawValue::Long(*bits),
            peer::Value::Float(float) => RawValue::Float(*float),
            peer::Value::Double(double) => RawValue::Double(*double),
            peer::Value::Boolean(boolean) => RawValue::Boolean(*boolean),
            peer::Value::String(text) => RawValue::String(text),
            peer::Value::Bytes(bytes) => RawValue::Bytes(bytes),
            peer::Value::DataSet(set) => RawValue::DataSet(our_data_set(set)),
            peer::Value::Template(template) => RawValue::Template(Template {
                version: template.version.as_deref(),
                metrics: template.metrics.iter().map(our_metric).collect(),
                parameters: template.parameters.iter().map(our_parameter).collect(),
                template_ref: template.template_ref.as_deref(),
                is_definition: template.is_definition == Some(true),
            }),
        }),
    }
}

fn our_parameter(parameter: &peer::Parameter) -> Parameter<'_> {
    Parameter {
        name: parameter.name.as_deref(),
        datatype: parameter.datatype,
        value: parameter.double.map(RawValue::Double),
    }
}

fn our_data_set(set: &peer::DataSet) -> DataSet<'_> {
    DataSet {
        column_count: set.column_count,
        columns: set.columns.iter().map(String::as_str).collect(),
        types: set.types.clone(),
        rows: set
            .rows
            .iter()
            .map(|row| row.cells.iter().map(our_cell).collect())
            .collect(),
    }
}

fn our_cell(cell: &peer::Cell) -> Option<RawValue<'_>> {
    cell.value.as_ref().map(|value| match value {
        peer::CellValue::Int(bits) => RawValue::Int(*bits),
        peer::CellValue::Double(double) => RawValue::Double(*double),
        peer::CellValue::Boolean(boolean) => RawValue::Boolean(*boolean),
        peer::CellValue::String(text) => RawValue::String(text),
    })
}

fn our_set(set: &peer::PropertySet) -> Vec<Property<'_>> {
    let pairs = set.keys.iter().zip(&set.values);
    pairs
        .map(|(key, found)| Property {
            key,
            datatype: found.datatype,
            value: our_property_value(found),
        })
        .collect()
}

fn our_property_value(value: &peer::PropertyValue) -> Option<PropertyValue<'_>> {
    let set = value.set.as_ref().map(our_set).map(PropertyValue::Set);
    let text = value.string.as_deref().map(RawValue::String);
    set.or(text.map(PropertyValue::Plain))
}

proptest! {
    #[test]
    fn payloads_of_prost_are_read_as_they_were_meant(payload in peer_payload()) {
        let bytes = payload.encode_to_vec();
        prop_assert_eq!(Payload::decode(&bytes), Ok(ours(&payload)));
    }

    #[test]
    fn payloads_written_here_are_read_by_prost(payload in peer_payload()) {
        let written = ours(&payload).encode();
        let mut expected = payload.clone();
        expected.later = None;
        prop_assert_eq!(peer::Payload::decode(&*written), Ok(expected));
    }

    #[test]
    fn a_new_timestamp_changes_nothing_else(payload in peer_payload(), timestamp: u64) {
        let changed = with_timestamp(&payload.encode_to_vec(), timestamp).unwrap();
        let expected = peer::Payload { timestamp: Some(timestamp), ..payload };
        prop_assert_eq!(peer::Payload::decode(&*changed), Ok(expected));
    }

    #[test]
    fn no_truncation_is_read_as_the_whole(payload in peer_payload()) {
        let bytes = payload.encode_to_vec();
        let whole = Payload::decode(&bytes);
        for length in 0..bytes.len() {
            if let Ok(part) = Payload::decode(&bytes[..length]) {
                // A cut between two fields leaves a smaller payload.
                let mut later = payload.clone();
                later.later = None;
                let is_later = length >= later.encoded_len();
                prop_assert!(is_later || Ok(part) != whole, "cut at {length}");
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(payload) = Payload::decode(&bytes) {
            let again = payload.encode();
            let read = Payload::decode(&again).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{payload:?}"));
        }
    }
}

#[test]
fn nesting_has_a_limit() {
    let mut metric = Metric::default();
    for _ in 0..20 {
        let template = Template {
            metrics: vec![metric],
            ..Template::default()
        };
        metric = Metric {
            value: Some(RawValue::Template(template)),
            ..Metric::default()
        };
    }
    let payload = Payload {
        metrics: vec![metric],
        ..Payload::default()
    };
    assert_eq!(Payload::decode(&payload.encode()), Err(DecodeError::Depth));
}

#[test]
fn metrics_have_a_limit() {
    let empty_metrics = |count: usize| [0x12, 0x00].repeat(count);
    let most = empty_metrics(65_536);
    assert_eq!(Payload::decode(&most).map(|p| p.metrics.len()), Ok(65_536));
    assert_eq!(
        Payload::decode(&empty_metrics(65_537)),
        Err(DecodeError::TooMany {
            what: "metrics",
            limit: 65_536
        })
    );
}

#[test]
fn names_have_a_limit() {
    let name = "n".repeat(4_097);
    let payload = Payload {
        metrics: vec![Metric {
            name: Some(&name),
            ..Metric::default()
        }],
        ..Payload::default()
    };
    assert_eq!(
        Payload::decode(&payload.encode()),
        Err(DecodeError::NameLength {
            message: "Metric",
            field: 1,
            length: 4_097
        })
    );
}

#[test]
fn packed_column_types_are_read_like_single_ones() {
    // Metric { dataset_value { types: [1, 300] } }, the types packed.
    let bytes = [0x12, 0x08, 0x8a, 0x01, 0x05, 0x1a, 0x03, 0x01, 0xac, 0x02];
    let payload = Payload::decode(&bytes).unwrap();
    let Some(RawValue::DataSet(set)) = &payload.metrics[0].value else {
        panic!("no data set");
    };
    assert_eq!(set.types, [1, 300]);
}

#[test]
fn keys_without_values_are_refused() {
    // Metric { properties { keys: ["a"] } }
    let bytes = [0x12, 0x05, 0x4a, 0x03, 0x0a, 0x01, b'a'];
    assert_eq!(
        Payload::decode(&bytes),
        Err(DecodeError::Properties { keys: 1, values: 0 })
    );
}
