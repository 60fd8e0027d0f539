//! The process: sockets, connections, and their end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use super::forward::{Asker, Forwarder};
use super::pointer_file::PointerFile;
use super::routes::Routes;
use super::{ProxyConfig, connection};
use crate::error::{Error, ErrorKind};

/// A proxy whose sockets are open.
#[derive(Debug)]
#[must_use = "a proxy answers nothing until it serves"]
pub struct ReverseProxy {
    config: ProxyConfig,
    public: TcpListener,
    address: SocketAddr,
    routes: Arc<Routes>,
    admin: Admin,
    _owner: File,
}

/// Runs a proxy until the token is cancelled and its requests are answered.
///
/// # Errors
/// See [`ReverseProxy::bind`].
pub async fn serve(config: ProxyConfig, shutdown: CancellationToken) -> Result<(), Error> {
    ReverseProxy::bind(config).await?.serve(shutdown).await;
    Ok(())
}

impl ReverseProxy {
    /// Opens the sockets and reads the pointer of the last run. The folder is created if needed.
    ///
    /// # Errors
    /// If another proxy has the folder, an address is taken, or the pointer was written by a newer
    /// proxy.
    pub async fn bind(config: ProxyConfig) -> Result<Self, Error> {
        let folder = config.state_dir.clone();
        let (owner, routes) = tokio::task::spawn_blocking(move || {
            let owner = own(&folder)?;
            Ok::<_, Error>((owner, Routes::new(PointerFile::in_folder(&folder))?))
        })
        .await
        .map_err(|join| {
            Error::new(ErrorKind::Io, "reading the pointer panicked").caused_by(join)
        })??;
        let taken = |source| {
            Error::new(ErrorKind::Io, format!("cannot listen on {}", config.listen))
                .remedy("free the address, or configure another one")
                .caused_by(source)
        };
        let public = TcpListener::bind(config.listen).await.map_err(taken)?;
        let address = public.local_addr().map_err(taken)?;
        let routes = Arc::new(routes);
        let admin = Admin::bind(&config.state_dir, address, Arc::clone(&routes))?;
        Ok(Self { config, public, address, routes, admin, _owner: owner })
    }

    /// Where it listens for the public.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the token is cancelled; then lets those under way end, for at most
    /// [`ProxyConfig::shutdown_grace`]. Dropping the future stops accepting.
    pub async fn serve(self, shutdown: CancellationToken) {
        tracing::info!(target: "ops", address = %self.address, epoch = self.routes.pointer().epoch, "proxy serves");
        let admin = tokio::spawn(self.admin.serve(shutdown.clone()));
        let forwarder = Arc::new(Forwarder::new(Arc::clone(&self.routes), &self.config));
        let room =
            Arc::new(Semaphore::new(self.config.max_connections.min(Semaphore::MAX_PERMITS)));

        loop {
            let accepted = async {
                let seat = Arc::clone(&room).acquire_owned().await;
                (self.public.accept().await, seat)
            };
            let Some((accepted, seat)) = shutdown.run_until_cancelled(accepted).await else {
                break;
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No more file descriptors, say: they come back when connections end.
                    tracing::warn!(target: "ops", %error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let Ok(seat) = seat else { break };
            let asker = Asker { address: client.ip(), seat: Arc::new(seat) };
            let patience = self.config.client_timeout;
            let (shutdown, serving) = (shutdown.clone(), Arc::clone(&forwarder));
            let served = connection::serve(stream, asker, serving, patience, shutdown);
            let cut = forwarder.cut.clone();
            forwarder.tasks.spawn(async move {
                if let Some(Err(error)) = cut.run_until_cancelled(served).await {
                    tracing::debug!(target: "ops", %client, %error, "connection ended");
                }
            });
        }

        drop(self.public);
        forwarder.tasks.close();
        if tokio::time::timeout(self.config.shutdown_grace, forwarder.tasks.wait()).await.is_err() {
            tracing::warn!(target: "ops", "requests were cut off by the end of the proxy");
            forwarder.cut.cancel();
            forwarder.tasks.wait().await;
        }
        let _ = admin.await;
    }
}

/// Makes sure that the folder has one proxy. The kernel frees the lock when it dies.
fn own(folder: &Path) -> Result<File, Error> {
    ops_core::fs::create_dir_durable(folder)?;
    let path = folder.join("proxy.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        Error::new(ErrorKind::Proxy, format!("another proxy runs on `{}`", folder.display()))
            .remedy("one proxy a folder; give this one its own, or stop the other")
            .caused_by(std::io::Error::from(error))
    })?;
    Ok(file)
}
