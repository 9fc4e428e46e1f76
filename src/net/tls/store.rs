//! The certificates of listeners and the trusted certificates for backends, reloaded when their files change. Open connections keep
//! those that they began with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use holdline_core::ids::FleetName;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, TrustAnchor};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::choice::Choice;
use crate::config::model::{BackendTls, Config, Listener, ListenerTls, TlsVersion};
use crate::config::tls::{self, Certificate, Expiry, TlsFileError};
use crate::telemetry::Metrics;
use crate::watch::FileWatch;

/// The only protocol that is negotiated (RFC 7301); a client that offers only others gets an alert.
const ALPN: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file, which may have changed since the configuration was checked.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// rustls rejected the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A gateway's TLS configuration and keys.
pub struct Store {
    provider: Arc<CryptoProvider>,
    /// Shared by all threads and listeners, since a returning client may reach any. Its keys rotate every six hours.
    tickets: Arc<dyn ProducesTickets>,
    servers: Vec<Server>,
    connectors: Vec<(FleetName, Arc<Connector>)>,
}

/// What listeners with the same settings share.
struct Server {
    settings: ListenerTls,
    choice: Arc<Choice>,
    config: Arc<ServerConfig>,
}

/// TLS to a fleet's backends.
pub struct Connector {
    settings: BackendTls,
    trust: ArcSwap<Trust>,
    name: Option<ServerName<'static>>,
}

/// Trusted certificates for a fleet's backends.
struct Trust {
    roots: Vec<TrustAnchor<'static>>,
    config: Arc<ClientConfig>,
}

impl Store {
    /// Reads every file that `config` names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn load(config: &Config) -> Result<Arc<Store>, StoreError> {
        Ok(Arc::new(Self::read(config, rustls::crypto::aws_lc_rs::Ticketer::new()?)?))
    }

    /// Reads every file that `config` names. Clients of `before` can resume, and its backends of fleets that `stays` are spoken to as
    /// before although `config` does not name them any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn load_after(
        config: &Config,
        before: &Store,
        stays: impl Fn(&FleetName) -> bool,
    ) -> Result<Arc<Store>, StoreError> {
        let mut store = Self::read(config, Arc::clone(&before.tickets))?;
        let is_named = |name: &FleetName| config.fleets.iter().any(|f| f.policy.name == *name);
        let leaving = before.connectors.iter().filter(|(name, _)| !is_named(name) && stays(name)).cloned();
        store.connectors.extend(leaving);
        Ok(Arc::new(store))
    }

    fn read(config: &Config, tickets: Arc<dyn ProducesTickets>) -> Result<Store, StoreError> {
        let mut store = Store { provider: tls::provider(), tickets, servers: Vec::new(), connectors: Vec::new() };
        for settings in config.listeners.iter().filter_map(|l| l.tls.as_ref()) {
            if store.servers.iter().all(|s| s.settings != *settings) {
                let choice = Arc::new(Choice::new(store.certificates(settings)?));
                let server = server_config(&store.provider, settings.min_version, &choice, &store.tickets)?;
                store.servers.push(Server { settings: settings.clone(), choice, config: Arc::new(server) });
            }
        }
        for fleet in &config.fleets {
            if let Some(settings) = &fleet.tls {
                let connector = Connector {
                    settings: settings.clone(),
                    trust: ArcSwap::from_pointee(trust(&store.provider, settings)?),
                    name: settings.name.clone().and_then(|name| name.try_into().ok()),
                };
                store.connectors.push((fleet.policy.name.clone(), Arc::new(connector)));
            }
        }
        Ok(store)
    }

    /// TLS for clients of `listener`; `None`: plain text.
    pub(crate) fn server(&self, listener: &Listener) -> Option<Arc<ServerConfig>> {
        let settings = listener.tls.as_ref()?;
        self.servers.iter().find(|s| s.settings == *settings).map(|s| Arc::clone(&s.config))
    }

    /// TLS to the backends of `fleet`; `None`: plain text.
    pub(crate) fn connector(&self, fleet: &FleetName) -> Option<&Arc<Connector>> {
        self.connectors.iter().find(|(name, _)| name == fleet).map(|(_, connector)| connector)
    }

    /// Reloads files that change, forever. A file that cannot be used is reported, and the previous content stays in use.
    pub(crate) async fn follow(self: Arc<Self>, metrics: Arc<Metrics>) {
        if self.paths().is_empty() {
            return std::future::pending().await;
        }
        let mut watch = FileWatch::new(self.paths());
        // They may have changed between the first read and this watch.
        let mut changed = self.paths();
        loop {
            let (store, paths) = (Arc::clone(&self), std::mem::take(&mut changed));
            let reload = tokio::task::spawn_blocking(move || store.reload(&paths));
            for result in reload.await.unwrap_or_default() {
                metrics.tls_reload(result.is_ok());
                match result {
                    Ok(what) => tracing::info!("{what}"),
                    Err(error) => tracing::error!(%error, "changed TLS files cannot be used; the previous ones stay in use"),
                }
            }
            changed = watch.changed().await;
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let certificates = self.servers.iter().flat_map(|s| &s.settings.certificates);
        let files = certificates.flat_map(|c| [&c.cert, &c.key]);
        let roots = self.connectors.iter().filter_map(|(_, c)| c.settings.ca.as_ref());
        files.chain(roots).cloned().collect()
    }

    /// Reloads what uses any of `paths`; one result for each whose content is new or cannot be used.
    fn reload(&self, paths: &[PathBuf]) -> Vec<Result<String, StoreError>> {
        let servers = self
            .servers
            .iter()
            .filter(|s| s.settings.certificates.iter().any(|c| paths.contains(&c.cert) || paths.contains(&c.key)));
        let connectors = self.connectors.iter().filter(|(_, c)| c.settings.ca.as_ref().is_some_and(|ca| paths.contains(ca)));
        let servers = servers.filter_map(|server| self.reload_server(server).transpose());
        servers.chain(connectors.filter_map(|(fleet, c)| self.reload_connector(fleet, c).transpose())).collect()
    }

    fn reload_server(&self, server: &Server) -> Result<Option<String>, StoreError> {
        let new = self.certificates(&server.settings)?;
        let old = server.choice.certificates();
        if old.iter().map(|c| &c.key.cert).eq(new.iter().map(|c| &c.key.cert)) {
            return Ok(None);
        }
        for (certificate, files) in new.iter().zip(&server.settings.certificates) {
            if certificate.expiry != Expiry::Valid {
                tracing::warn!(file = %files.cert.display(), "the new certificate has expired or is not valid yet");
            }
        }
        let names = new.iter().flat_map(|c| c.names.clone()).collect::<Vec<_>>().join(", ");
        server.choice.replace(new);
        Ok(Some(format!("new certificates in use for {names}")))
    }

    fn reload_connector(&self, fleet: &FleetName, connector: &Connector) -> Result<Option<String>, StoreError> {
        let new = trust(&self.provider, &connector.settings)?;
        if connector.trust.load().roots == new.roots {
            return Ok(None);
        }
        connector.trust.store(Arc::new(new));
        Ok(Some(format!("new trusted certificates in use for the backends of {fleet}")))
    }

    fn certificates(&self, settings: &ListenerTls) -> Result<Vec<Certificate>, StoreError> {
        settings.certificates.iter().map(|files| Ok(tls::certificate(files, &self.provider)?)).collect()
    }
}

impl Connector {
    /// The configuration for a connection to `address`, and the name that its certificate must have.
    pub(super) fn target(&self, address: IpAddr) -> (Arc<ClientConfig>, ServerName<'static>) {
        (Arc::clone(&self.trust.load().config), self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into())))
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    min: TlsVersion,
    choice: &Arc<Choice>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, StoreError> {
    const ALL: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = if min == TlsVersion::V13 { &ALL[..1] } else { ALL };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(choice) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resumption is stateless: everything is in the client's encrypted ticket.
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn trust(provider: &Arc<CryptoProvider>, settings: &BackendTls) -> Result<Trust, StoreError> {
    let store = tls::roots(settings.ca.as_deref())?;
    let roots = store.roots.clone();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Trust { roots, config: Arc::new(config) })
}
