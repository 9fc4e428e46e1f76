//! What a client speaks over: plain TCP, or TLS that trusts the run's own certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Failure;

/// Connections from one source address: its ports are never scarce, however long those of the dead linger.
const PER_SOURCE: u32 = 1_000;

/// The name in the run's certificate, and the Host of every request.
pub(crate) const NAME: &str = "bench";

/// A connection of either kind.
pub(crate) type Stream = Box<dyn Io>;

/// Anything that is read and written.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Target {
    /// `ca`: the certificate to trust, which makes it TLS. Nothing is resumed, so every handshake is a full one.
    pub(crate) fn new(address: SocketAddr, ca: Option<&Path>) -> Result<Self, Failure> {
        let tls = ca.map(|path| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(path)?)?;
            let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            config.resumption = Resumption::disabled();
            Ok::<_, Failure>(TlsConnector::from(Arc::new(config)))
        });
        Ok(Target { address, tls: tls.transpose()? })
    }

    /// The `number`th connection; its end is a reset, so that no port lingers.
    pub(crate) async fn connect(&self, number: u32) -> Result<Stream, Failure> {
        let tcp = self.connect_tcp(number).await?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.connect(ServerName::try_from(NAME)?, tcp).await?),
        })
    }

    /// The same without TLS.
    pub(crate) async fn connect_tcp(&self, number: u32) -> Result<TcpStream, Failure> {
        let socket = TcpSocket::new_v4()?;
        // 127.64.0.1 and on: backends and proxies listen below.
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 1)) + number / PER_SOURCE);
        socket.bind((source, 0).into())?;
        socket.set_zero_linger()?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
