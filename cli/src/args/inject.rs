//! What `meshsim inject` takes.

use super::Format;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// Kubernetes manifests: files, folders, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// A table of pods, or the manifests that injection leaves
    #[arg(short, long, value_enum, default_value = "table", value_name = "WHAT")]
    pub(crate) output: InjectOutput,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Of objects that do not say
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// Namespaces without a label are injected (`enableNamespacesByDefault` of the installation)
    #[arg(long)]
    pub(crate) namespaces_by_default: bool,
    /// With Istio's CNI plugin: no init container sets up iptables, one sees that it has been done
    #[arg(long)]
    pub(crate) cni: bool,
    /// Whose manifests: Istio 1.32's, or those of linkerd-inject of 2017
    #[arg(long, value_enum, default_value = "istio")]
    pub(crate) dialect: InjectDialect,
    /// Linkerd: the port of its outgoing router
    #[arg(long, default_value_t = 4140, value_name = "PORT")]
    pub(crate) linkerd_port: u16,
    /// Linkerd: the Service of its DaemonSet
    #[arg(long, default_value = "l5d", value_name = "NAME")]
    pub(crate) linkerd_service: String,
    /// Linkerd: to the Service's own address instead of the node's
    #[arg(long)]
    pub(crate) use_service_vip: bool,
    /// Linkerd: the init container is privileged
    #[arg(long)]
    pub(crate) privileged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InjectOutput {
    Table,
    Manifest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InjectDialect {
    Istio,
    /// As on 11 July 2017
    #[value(name = "2017")]
    Linkerd2017,
}
