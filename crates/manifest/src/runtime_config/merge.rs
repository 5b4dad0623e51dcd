//! An app's configuration on top of what its pool gives to every app.

use super::{KeyValueStore, RuntimeConfig, SqliteDatabase};

impl RuntimeConfig {
    /// This configuration of the app `app`, on top of that of the pool that runs it.
    ///
    /// What the app names is the app's: its stores, databases, providers and models. What it does not name is the pool's;
    /// a Redis store of the pool keeps the keys of each app and label apart. Whom the app trusts goes before whom the pool
    /// does. Limits are the lower of both, and networks are blocked that either blocks: an app can ask for less, not for more.
    #[must_use]
    pub fn over_pool(self, pool: &Self, app: &str) -> Self {
        let mut key_value_stores = self.key_value_stores;
        for (label, store) in &pool.key_value_stores {
            key_value_stores.entry(label.clone()).or_insert_with(|| store.of(app, label));
        }
        let mut sqlite_databases = self.sqlite_databases;
        for (label, database) in &pool.sqlite_databases {
            let SqliteDatabase::Spin { .. } = database else { continue };
            sqlite_databases.entry(label.clone()).or_insert_with(|| database.clone());
        }
        let mut client_tls = self.client_tls;
        client_tls.extend(pool.client_tls.iter().cloned());
        let (mut http, mut networking) = (self.outbound_http, self.outbound_networking);
        http.connection_pooling &= pool.outbound_http.connection_pooling;
        http.max_connections = lower(http.max_connections, pool.outbound_http.max_connections);
        for network in &pool.outbound_networking.block_networks {
            if !networking.block_networks.contains(network) {
                networking.block_networks.push(*network);
            }
        }
        let of_pool = &pool.outbound_networking;
        networking.max_socket_connections = lower(networking.max_socket_connections, of_pool.max_socket_connections);
        networking.max_total_connections = lower(networking.max_total_connections, of_pool.max_total_connections);
        Self {
            state_dir: self.state_dir,
            log_dir: self.log_dir,
            max_instance_memory: lower(self.max_instance_memory, pool.max_instance_memory),
            key_value_stores,
            sqlite_databases,
            variables_providers: self.variables_providers,
            llm_compute: self.llm_compute.or_else(|| pool.llm_compute.clone()),
            outbound_http: http,
            outbound_networking: networking,
            outbound_redis_connections: lower(self.outbound_redis_connections, pool.outbound_redis_connections),
            outbound_pg_connections: lower(self.outbound_pg_connections, pool.outbound_pg_connections),
            outbound_mysql_connections: lower(self.outbound_mysql_connections, pool.outbound_mysql_connections),
            outbound_mqtt_connections: lower(self.outbound_mqtt_connections, pool.outbound_mqtt_connections),
            client_tls,
        }
    }
}

impl KeyValueStore {
    /// This store of a pool, for one label of one app.
    fn of(&self, app: &str, label: &str) -> Self {
        match self {
            Self::Spin { .. } => self.clone(),
            // With no `:` inside an app's name or a label, no prefix begins another.
            Self::Redis { url, .. } => {
                let label = label.replace('%', "%25").replace(':', "%3A");
                Self::Redis { url: url.clone(), prefix: Some(format!("spindle:{app}:{label}:")) }
            }
        }
    }
}

/// The lower of two limits, where `None` is no limit.
fn lower<N: Ord>(a: Option<N>, b: Option<N>) -> Option<N> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime_config::{BlockedNetwork, KeyValueStore, Origin, RuntimeConfig, parse};

    fn of(text: &str, origin: Origin<'_>) -> RuntimeConfig {
        parse(text, "runtime-config.toml", origin).unwrap()
    }

    #[test]
    fn a_redis_of_the_pool_keeps_apps_and_labels_apart() {
        let pool = of("[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://r\"", Origin::Pool);
        let prefix = |app| match &RuntimeConfig::default().over_pool(&pool, app).key_value_stores["default"] {
            KeyValueStore::Redis { prefix, .. } => prefix.clone(),
            KeyValueStore::Spin { .. } => None,
        };
        assert_eq!(prefix("shop/cart").as_deref(), Some("spindle:shop/cart:default:"));
        assert_ne!(prefix("shop/cart"), prefix("shop/ca"));
    }

    #[test]
    fn a_store_that_the_app_names_is_its_own() {
        let pool = of("[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://pool\"", Origin::Pool);
        let app = of("[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://mine\"", Origin::App);
        assert_eq!(app.clone().over_pool(&pool, "a/b"), app);
    }

    #[test]
    fn authorities_that_the_pool_trusts_are_trusted_after_those_of_the_app() {
        let tls = |pem: &str| {
            format!(
                "[[client_tls]]\ncomponent_ids = [\"a\"]\nhosts = [\"redis.example\"]\nca_roots_pem = \"-----BEGIN {pem}\""
            )
        };
        let (app, pool) = (of(&tls("APP"), Origin::App), of(&tls("POOL"), Origin::Pool));
        let expected = [app.client_tls.clone(), pool.client_tls.clone()].concat();
        assert_eq!(app.over_pool(&pool, "a/b").client_tls, expected);
        assert_eq!(RuntimeConfig::default().over_pool(&pool, "a/b").client_tls, pool.client_tls);
    }

    #[test]
    fn an_app_lowers_limits_and_lifts_none() {
        let pool = "max_instance_memory = 100000\n[outbound_http]\nmax_connections = 5\n[outbound_networking]\nblock_networks = [\"private\"]";
        let app =
            "max_instance_memory = 200000\n[outbound_http]\nmax_connections = 2\n[outbound_pg]\nmax_connections = 3";
        let both = of(app, Origin::App).over_pool(&of(pool, Origin::Pool), "a/b");
        assert_eq!(both.max_instance_memory, Some(100_000));
        assert_eq!(both.outbound_http.max_connections, Some(2));
        assert_eq!(both.outbound_pg_connections, Some(3));
        assert_eq!(both.outbound_networking.block_networks, [BlockedNetwork::Private]);
    }
}
