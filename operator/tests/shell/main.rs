//! The operator's shell against what it talks to: runtimes over real TLS and HTTP/2 on loopback, and an
//! API server that holds objects in memory.

#[cfg(test)]
mod api;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod definition;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod installation;
#[cfg(test)]
mod leader;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod races;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod slices;
#[cfg(test)]
mod streams;
