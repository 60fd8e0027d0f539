//! `ops-deploy-test-program VERB DIR [VERSION]`: `deploy`, `rollback`, `recover`; or `proxy DIR
//! [ADDRESS]`, `take-over DIR [ADDRESS]`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

mod site;
mod verbs;

use std::process::ExitCode;

use ops_deploy::{ProxyConfig, ReverseProxy, proxy};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let asked = verbs::asked();
    if let "proxy" | "take-over" = asked.verb.as_str() {
        let listen = asked.rest.as_deref().unwrap_or("127.0.0.1:0").parse().expect("an address");
        let config = ProxyConfig::new(listen, asked.dir.join("proxy"));
        let never = tokio_util::sync::CancellationToken::new();
        if asked.verb == "proxy" {
            return verbs::ended(proxy::serve(config, never).await);
        }
        return verbs::ended(match ReverseProxy::take_over(config).await {
            Ok(proxy) => {
                proxy.serve(never).await;
                Ok(())
            }
            Err(error) => Err(error),
        });
    }
    let own = std::env::current_exe().expect("a path");
    let service = own.with_file_name("ops-deploy-test-service");
    let site = |dir: &std::path::Path| Ok(Box::new(site::builder(dir, &service).build()?) as _);
    verbs::ended(verbs::act(asked, site, site::context).await)
}
