//! Kubernetes objects, as far as they matter to routing.

mod endpoints;
mod ingress;
mod service;
mod workload;

pub(crate) use endpoints::{EndpointsObject, ListedAddress, Subset as EndpointSubset};
pub(crate) use ingress::{Ingress, IngressHost, IngressMatch, IngressPath, IngressPort};
pub(crate) use service::{ClusterIp, Distribution, KubernetesService, Port as ServicePort, Target};
pub(crate) use workload::{Deployment, PodObject, Replicas, Template, locality_of};
