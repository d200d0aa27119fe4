//! Which node is meant: `nsu=urn:acme:spindle;s=Speed`, `ns=2;i=1001`.

use std::fmt;
use std::str::FromStr;

use opcua::types::{Identifier, NodeId};
use thiserror::Error;

/// The namespaces of a server, by index. Index 0 is OPC UA itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    uris: Vec<String>,
}

impl Namespaces {
    /// The array as the server has it.
    pub fn new(uris: Vec<String>) -> Self {
        Self { uris }
    }

    /// The index of a URI.
    pub fn index(&self, uri: &str) -> Option<u16> {
        let index = self.uris.iter().position(|known| known == uri)?;
        u16::try_from(index).ok()
    }

    /// The URI of an index.
    pub fn uri(&self, index: u16) -> Option<&str> {
        self.uris.get(usize::from(index)).map(String::as_str)
    }

    /// All of them.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }
}

/// A text that names no node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeIdError {
    /// The namespace part.
    #[error("node id is {0:?}, expected nsu=URI; or ns=INDEX; or nothing before the identifier")]
    Namespace(String),
    /// The identifier part.
    #[error(
        "node id is {0:?}, expected an identifier s=TEXT, i=NUMBER, g=GUID or b=BASE64 at the end"
    )]
    Identifier(String),
}

/// The server does not have the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the server has no namespace {uri:?}")]
pub struct UnknownNamespace {
    /// The URI.
    pub uri: String,
}

/// A node as a person names it. Indexes of namespaces move when a server is
/// changed; URIs do not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    namespace: Namespace,
    identifier: Identifier,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Namespace {
    Index(u16),
    Uri(String),
}

impl NodeRef {
    /// Reads a node id in the notation of Part 6, 5.3.1.10, with `nsu=`.
    ///
    /// # Errors
    /// [`NodeIdError`] says what is expected.
    pub fn parse(text: &str) -> Result<Self, NodeIdError> {
        let wrong_namespace = || NodeIdError::Namespace(text.to_owned());
        let (namespace, identifier) = if let Some(rest) = text.strip_prefix("nsu=") {
            // The identifier may hold anything, the URI no semicolon.
            let (uri, rest) = rest.split_once(';').ok_or_else(wrong_namespace)?;
            if uri.is_empty() {
                return Err(wrong_namespace());
            }
            (Namespace::Uri(uri.to_owned()), rest)
        } else if let Some(rest) = text.strip_prefix("ns=") {
            let (index, rest) = rest.split_once(';').ok_or_else(wrong_namespace)?;
            let index = index.parse().map_err(|_| wrong_namespace())?;
            (Namespace::Index(index), rest)
        } else {
            (Namespace::Index(0), text)
        };
        let wrong = || NodeIdError::Identifier(text.to_owned());
        // The library cuts the text after two bytes.
        if !identifier.is_char_boundary(2.min(identifier.len())) || identifier.len() < 3 {
            return Err(wrong());
        }
        let identifier = Identifier::from_str(identifier).map_err(|()| wrong())?;
        Ok(Self {
            namespace,
            identifier,
        })
    }

    /// The reference that stays right when indexes move.
    pub fn of(node: &NodeId, namespaces: &Namespaces) -> Self {
        let uri = (node.namespace != 0).then(|| namespaces.uri(node.namespace));
        Self {
            namespace: match uri.flatten() {
                Some(uri) if !uri.is_empty() && !uri.contains(';') => {
                    Namespace::Uri(uri.to_owned())
                }
                _ => Namespace::Index(node.namespace),
            },
            identifier: node.identifier.clone(),
        }
    }

    /// The node on a server with these namespaces.
    ///
    /// # Errors
    /// [`UnknownNamespace`] when the server does not have the URI.
    pub fn resolve(&self, namespaces: &Namespaces) -> Result<NodeId, UnknownNamespace> {
        let namespace = match &self.namespace {
            Namespace::Index(index) => *index,
            Namespace::Uri(uri) => namespaces
                .index(uri)
                .ok_or_else(|| UnknownNamespace { uri: uri.clone() })?,
        };
        Ok(NodeId {
            namespace,
            identifier: self.identifier.clone(),
        })
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Namespace::Index(0) => {}
            Namespace::Index(index) => write!(f, "ns={index};")?,
            Namespace::Uri(uri) => write!(f, "nsu={uri};")?,
        }
        write!(f, "{}", self.identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(uris: &[&str]) -> Namespaces {
        Namespaces::new(uris.iter().map(|&uri| uri.to_owned()).collect())
    }

    #[test]
    fn a_node_by_uri_follows_its_namespace() {
        let speed = NodeRef::parse("nsu=urn:acme:spindle;s=Speed;1").unwrap();
        let before = namespaces(&["http://opcfoundation.org/UA/", "urn:acme:spindle"]);
        let after = namespaces(&[
            "http://opcfoundation.org/UA/",
            "urn:new",
            "urn:acme:spindle",
        ]);
        assert_eq!(speed.resolve(&before), Ok(NodeId::new(1, "Speed;1")));
        assert_eq!(speed.resolve(&after), Ok(NodeId::new(2, "Speed;1")));
        let gone = namespaces(&["http://opcfoundation.org/UA/"]);
        let uri = "urn:acme:spindle".to_owned();
        assert_eq!(speed.resolve(&gone), Err(UnknownNamespace { uri }));
        assert_eq!(NodeRef::of(&NodeId::new(2, "Speed;1"), &after), speed);
    }

    #[test]
    fn every_kind_of_identifier_is_read_and_written() {
        let texts = [
            "ns=2;s=Speed",
            "ns=2;s=a=b;c",
            "ns=65535;i=4294967295",
            "i=2258",
            "nsu=http://x/;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            "ns=1;b=M/RbKBsRVkePCePcx24oRA==",
        ];
        for text in texts {
            assert_eq!(NodeRef::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_name_the_part() {
        for text in ["nsu=urn:x", "nsu=;s=a", "ns=x;s=a", "ns=70000;s=a", "ns=2"] {
            let error = NodeRef::parse(text).unwrap_err();
            assert_eq!(error, NodeIdError::Namespace(text.to_owned()), "{text}");
        }
        for text in [
            "",
            "Speed",
            "ns=2;Speed",
            "ns=2;s=",
            "i=x",
            "ns=2;ö",
            "ns=2;g=1",
            "éé",
        ] {
            let error = NodeRef::parse(text).unwrap_err();
            assert_eq!(error, NodeIdError::Identifier(text.to_owned()), "{text}");
        }
    }
}
