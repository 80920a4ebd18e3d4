//! Which requests a list of route matches stands for: decided exactly, with a request as witness.
//!
//! - [`reach`] tells of every match of a table whether any request gets to it, or which earlier ones
//!   take all of its requests.
//! - [`overlaps`] tells of two tables which pairs of matches, one of each, some request gets to, with
//!   that request.
//!
//! Both take [`Condition`]s (of a `proxy_core::xds::RouteMatch`, see [`Condition::of`]) in the order
//! in which they are tried, and a [`Domain`]: which paths and authorities there may be. Answers are
//! about requests that can be sent: paths as they are after the connection manager normalised them,
//! methods that are tokens, and so on. Every witness has been held against the core's own matchers; an
//! answer that would take too long is `Undecided`.
//!
//! How: in each place of a request (path, method, each header ...) texts are sorted into classes that
//! no condition of the compared matches tells apart, by walking one automaton of all of them. Classes
//! are points of a dimension, a match is a box, and what is left is to cover boxes by boxes.
//!
//! | module | holds |
//! |---|---|
//! | `tables` | matches in the order in which they are tried: what reaches each of them |
//! | `domain` | which requests there may be |
//! | `condition` | what a match asks for, place by place |
//! | `witness` | one request that stands for a class of them |
//! | `space`, `set` | dimensions, their points, and matches as boxes |
//! | `cover` | is a box covered by others together? |
//! | `classes`, `alphabet` | the texts of one place, sorted into classes; which texts there may be |
//! | `atom`, `literals`, `expressions` | conditions on one text; all of them at once |

mod alphabet;
mod atom;
mod classes;
mod condition;
mod cover;
mod domain;
mod expressions;
mod literals;
mod set;
mod space;
mod tables;
mod witness;

pub use condition::{Condition, Given, Place};
pub use domain::{Authorities, Domain, Paths};
pub use tables::{Overlap, Reach, Undecided, overlaps, reach};
pub use witness::Witness;
