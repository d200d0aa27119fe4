//! Who a client is by the certificate of its connection.

/// The certificate that a client showed and that was checked against the
/// authorities of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The subject as RFC 4514 writes it: `CN=press-1,O=Plant`.
    pub subject: String,
    /// The common name of the subject, when it has one.
    pub common_name: Option<String>,
}
