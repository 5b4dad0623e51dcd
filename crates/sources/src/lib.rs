//! Where applications come from: directories and Bindle servers.
