//! Kubernetes objects, as far as they matter to routing.

mod endpoints;
mod ingress;
mod service;
mod workload;

pub(crate) use endpoints::{EndpointsObject, Subset as EndpointSubset};
pub(crate) use ingress::{Ingress, IngressMatch, IngressPath, IngressPort};
pub(crate) use service::{ClusterIp, KubernetesService, Target};
pub(crate) use workload::{Deployment, PodObject, Replicas, locality_of};
