//! The payload of a Sparkplug message (section 6.4), borrowing its texts.

/// What one Sparkplug message carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload<'a> {
    /// When it was sent, in milliseconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The metrics in their order.
    pub metrics: Vec<Metric<'a>>,
    /// Its number in the sequence of the edge node, 0 to 255.
    pub seq: Option<u64>,
    /// Names a schema.
    pub uuid: Option<&'a str>,
    /// Bytes in a form of the sender's own.
    pub body: Option<&'a [u8]>,
}

/// One metric. A birth gives its name and type; data may name it by its alias
/// and leave the type out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric<'a> {
    /// The name; slashes make a hierarchy.
    pub name: Option<&'a str>,
    /// The number that stands for the name since the birth.
    pub alias: Option<u64>,
    /// When the value was acquired, in milliseconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// Number of the type, see [`DataType`](crate::DataType).
    pub datatype: Option<u32>,
    /// The value is of the past and does not replace the newest one.
    pub is_historical: bool,
    /// The sender asks not to store it.
    pub is_transient: bool,
    /// There is no value.
    pub is_null: bool,
    /// Properties in their order.
    pub properties: Vec<Property<'a>>,
    /// The value as the wire has it; its meaning depends on the type.
    pub value: Option<RawValue<'a>>,
}

/// A value by the field that carries it.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue<'a> {
    /// `int_value`: 32 bits, for integers of up to 32 bits of either sign.
    Int(u32),
    /// `long_value`: 64 bits, for the larger integers and times.
    Long(u64),
    /// `float_value`.
    Float(f32),
    /// `double_value`.
    Double(f64),
    /// `boolean_value`.
    Boolean(bool),
    /// `string_value`.
    String(&'a str),
    /// `bytes_value`, for bytes, files and arrays.
    Bytes(&'a [u8]),
    /// `dataset_value`.
    DataSet(DataSet<'a>),
    /// `template_value`.
    Template(Template<'a>),
    /// An extension of a third party; its content is skipped.
    Extension,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataSet<'a> {
    /// The number of columns as the sender counts them.
    pub column_count: Option<u64>,
    /// Names of the columns.
    pub columns: Vec<&'a str>,
    /// Types of the columns.
    pub types: Vec<u32>,
    /// The rows; a cell without a value is null.
    pub rows: Vec<Vec<Option<RawValue<'a>>>>,
}

/// A definition or an instance of a structure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template<'a> {
    /// Its version.
    pub version: Option<&'a str>,
    /// The members.
    pub metrics: Vec<Metric<'a>>,
    /// The parameters.
    pub parameters: Vec<Parameter<'a>>,
    /// Name of the definition that this is an instance of.
    pub template_ref: Option<&'a str>,
    /// Whether it is a definition.
    pub is_definition: bool,
}

/// A parameter of a template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter<'a> {
    /// Its name.
    pub name: Option<&'a str>,
    /// Its type.
    pub datatype: Option<u32>,
    /// Its value.
    pub value: Option<RawValue<'a>>,
}

/// A property of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Property<'a> {
    /// Its name.
    pub key: &'a str,
    /// Number of its type.
    pub datatype: Option<u32>,
    /// Its value; `None` is null.
    pub value: Option<PropertyValue<'a>>,
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq)]
pub enum PropertyValue<'a> {
    /// A value by the field that carries it.
    Plain(RawValue<'a>),
    /// Properties below this one.
    Set(Vec<Property<'a>>),
    /// Lists of properties.
    Sets(Vec<Vec<Property<'a>>>),
}

impl<'a> Metric<'a> {
    /// The property of a name.
    pub fn property(&self, key: &str) -> Option<&PropertyValue<'a>> {
        let found = self.properties.iter().find(|property| property.key == key);
        found?.value.as_ref()
    }

    /// The text of a property.
    pub fn text_property(&self, key: &str) -> Option<&'a str> {
        match self.property(key)? {
            PropertyValue::Plain(RawValue::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The integer of a property; the sign is that of an Int32.
    pub fn integer_property(&self, key: &str) -> Option<i64> {
        match self.property(key)? {
            PropertyValue::Plain(RawValue::Int(bits)) => Some(i64::from(*bits as i32)),
            PropertyValue::Plain(RawValue::Long(bits)) => Some(*bits as i64),
            _ => None,
        }
    }
}

impl<'a> Payload<'a> {
    /// The metric of a name.
    pub fn metric(&self, name: &str) -> Option<&Metric<'a>> {
        self.metrics.iter().find(|metric| metric.name == Some(name))
    }

    /// The birth/death sequence number, the metric `bdSeq` (section 6.4.16).
    pub fn bd_seq(&self) -> Option<u64> {
        match self.metric("bdSeq")?.value {
            Some(RawValue::Int(bits)) => Some(u64::from(bits)),
            Some(RawValue::Long(bits)) => Some(bits),
            _ => None,
        }
    }
}
