//! Putting plugins on the host, exchanging them, and what is left when that goes wrong.

mod approval;
mod conflict;
mod death;
mod deploy;
mod kill;
mod lifecycle;
mod rehearsal;
mod rollout;
mod swap;
