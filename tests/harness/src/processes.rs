//! The programs of a control plane, and their arguments.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Result;

use crate::binaries::Binaries;
use crate::certificates::Authority;
use crate::controlplane::{Options, log, write_identity};
use crate::supervisor::{Probe, Process};

/// Where they listen.
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
}

fn etcd_args(dir: &Path, etcd_url: &str, ports: &Ports, options: &Options) -> Vec<String> {
    let peer_url = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut etcd = vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={etcd_url}"),
        format!("--advertise-client-urls={etcd_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=default={peer_url}"),
        "--log-level=warn".into(),
    ];
    if !options.durable_etcd {
        etcd.push("--unsafe-no-fsync".into());
    }
    etcd
}

fn apiserver_args(dir: &Path, authority: &Authority, etcd_url: &str, ports: &Ports, server: &str, options: &Options) -> Vec<String> {
    let pki = |name: &str| authority.file(name).display().to_string();
    let mut apiserver = vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.apiserver),
        // An Endpoints object with a loopback address is invalid.
        "--endpoint-reconciler-type=none".into(),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        "--authorization-mode=RBAC".into(),
        format!("--service-account-issuer={server}"),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        // As in most clusters, and not the address, which is another one each time.
        "--api-audiences=https://kubernetes.default.svc".into(),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--allow-privileged=true".into(),
        format!("--audit-policy-file={}", dir.join("audit-policy.yaml").display()),
        format!("--audit-log-path={}", dir.join("audit.log").display()),
        // It is written before the next request of the same client is answered, and never rotated: tests count the lines.
        "--audit-log-mode=blocking".into(),
        "--audit-log-maxsize=1000000".into(),
    ];
    apiserver.extend(options.apiserver_args.iter().cloned());
    apiserver
}

/// All of them, in the order of their start.
pub(crate) fn all(
    dir: &Path,
    authority: &Authority,
    ports: &Ports,
    server: &str,
    options: &Options,
    binaries: &Binaries,
) -> Result<Vec<Process>> {
    let seconds = u32::try_from(options.ready_within.as_secs())?;
    let pki = |name: &str| authority.file(name).display().to_string();
    // Each is a user of its own, so that the audit log shows which one called. Kubernetes has roles for two of them, but none for kwok.
    let kubeconfig = |user: &str, groups: &[&str]| {
        let path = dir.join("kubeconfigs").join(user);
        write_identity(authority, server, user, groups, &path)?;
        anyhow::Ok(format!("--kubeconfig={}", path.display()))
    };
    let process = |name: &str, args: Vec<String>| Process {
        name: name.to_owned(),
        argv: [binaries.argv(name), args].concat(),
        env: BTreeMap::new(),
        log: log(dir, name),
        restart: true,
        ready: None,
    };

    let etcd_url = format!("http://127.0.0.1:{}", ports.etcd);
    let mut controller_manager = vec![
        kubeconfig("system:kube-controller-manager", &[])?,
        "--leader-elect=false".into(),
        "--use-service-account-credentials=true".into(),
        format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        "--secure-port=0".into(),
        // Tests wait for the deletion of namespaces and for garbage collection.
        "--concurrent-namespace-syncs=20".into(),
        "--concurrent-gc-syncs=40".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        // Nodes must not be given up because the API server or kwok is stopped.
        "--node-monitor-grace-period=10m".into(),
    ];
    controller_manager.extend(options.controller_manager_args.iter().cloned());

    let mut all = vec![
        Process {
            ready: Some(Probe { url: format!("{etcd_url}/health"), ca: None, seconds }),
            ..process("etcd", etcd_args(dir, &etcd_url, ports, options))
        },
        Process {
            ready: Some(Probe { url: format!("{server}/readyz"), ca: Some(authority.file("ca.crt")), seconds }),
            ..process("kube-apiserver", apiserver_args(dir, authority, &etcd_url, ports, server, options))
        },
        process("kube-controller-manager", controller_manager),
    ];
    if options.scheduler {
        let args = vec![
            kubeconfig("system:kube-scheduler", &[])?,
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
        ];
        all.push(process("kube-scheduler", args));
    }
    if options.nodes > 0 {
        let mut args = vec![
            kubeconfig("kwok", &["system:masters"])?,
            "--manage-all-nodes=true".into(),
            // Without leases the nodes would be considered lost after a while.
            "--node-lease-duration-seconds=200".into(),
        ];
        args.extend(binaries.stages().map(|stage| format!("--config={}", stage.display())));
        let kwok = process("kwok", args);
        all.push(Process {
            // Otherwise it looks for a configuration in the home folder.
            env: BTreeMap::from([("KWOK_WORKDIR".into(), dir.join("kwok").display().to_string())]),
            ..kwok
        });
    }
    // The audit log exists from the start, so that it can be read.
    File::create(dir.join("audit.log"))?;
    Ok(all)
}
