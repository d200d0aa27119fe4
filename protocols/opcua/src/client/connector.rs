//! The TCP connection below a session.
//!
//! The library's own connector has no time-out, leaves Nagle's delay on and
//! connects to whatever host the server names itself. This one connects to the
//! host in the settings, which is the one that is reachable from here.

use std::sync::Arc;
use std::time::Duration;

use opcua::client::ConnectionSource;
use opcua::client::transport::{
    Connector, RequestRecv, SecureChannelState, StreamConnection, StreamConnector, StreamTransport,
    TransportConfiguration,
};
use opcua::core::comms::tcp_codec::TcpCodec;
use opcua::types::{DecodingOptions, EndpointDescription, Error, StatusCode};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use crate::settings::Url;

/// Where and how to connect.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) url: Url,
    pub(super) timeout: Duration,
}

type Connection = StreamConnection<OwnedReadHalf, OwnedWriteHalf>;

impl Dial {
    async fn connect_tcp(
        self,
        endpoint_url: String,
        decoding: DecodingOptions,
    ) -> Result<Connection, Error> {
        let failed = |text: String| Error::new(StatusCode::BadNotConnected, text);
        let address = (self.url.host(), self.url.port());
        let connecting = tokio::time::timeout(self.timeout, TcpStream::connect(address));
        let stream = connecting
            .await
            .map_err(|_| Error::new(StatusCode::BadTimeout, "no TCP connection in time"))?
            .map_err(|error| failed(format!("{}: {error}", self.url.as_str())))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        let reader = FramedRead::new(reader, TcpCodec::new(decoding));
        Ok(StreamConnection::new(reader, writer, endpoint_url))
    }
}

impl Connector for Dial {
    type Transport = StreamTransport<OwnedReadHalf, OwnedWriteHalf>;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        outgoing: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<Self::Transport, Error> {
        let dial = |url, decoding| self.clone().connect_tcp(url, decoding);
        let connector = StreamConnector::new(dial, self.url.as_str().to_owned());
        connector.connect(channel, outgoing, config).await
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

impl ConnectionSource for Dial {
    type Builder = Self;

    fn get_connector(&self, _: &EndpointDescription) -> Result<Self, Error> {
        Ok(self.clone())
    }
}
