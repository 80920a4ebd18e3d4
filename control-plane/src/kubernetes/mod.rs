//! Kubernetes objects, as far as they matter to routing.

mod endpoints;
mod ingress;
mod service;
mod workload;

pub(crate) use endpoints::{EndpointsObject, Subset as EndpointSubset};
pub(crate) use ingress::{Ingress, IngressMatch, IngressPath, IngressPort};
pub(crate) use service::{ClusterIp, KubernetesService, Port as ServicePort, Target};
pub(crate) use workload::{Deployment, Injection, PodObject, Replicas, Template, locality_of};
