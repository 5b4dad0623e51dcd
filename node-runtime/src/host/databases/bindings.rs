//! What `bindgen!` makes of the interfaces in `wit/`: types, traits that this host implements, and functions that link them.
//!
//! A guest that imports `spin:postgres/postgres` in version 4.0.0 or 4.1.0 finds 4.2.0, which has all of them and more.

wasmtime::component::bindgen!({
    inline: "
        package spindle:host;

        world databases {
            import fermyon:spin/redis@2.0.0;
            import fermyon:spin/postgres@2.0.0;
            import fermyon:spin/mysql@2.0.0;
            import fermyon:spin/mqtt@2.0.0;
            import fermyon:spin/redis;
            import fermyon:spin/postgres;
            import fermyon:spin/mysql;
            import spin:redis/redis@3.0.0;
            import spin:postgres/postgres@3.0.0;
            import spin:postgres/postgres@4.2.0;
            import spin:mysql/mysql@3.0.0;
            import spin:mqtt/mqtt@3.0.0;
        }
    ",
    path: [
        "wit/fermyon-spin",
        "wit/fermyon-spin@2.0.0",
        "wit/spin-redis@3.0.0",
        "wit/spin-postgres@3.0.0",
        "wit/spin-postgres@4.2.0",
        "wit/spin-mysql@3.0.0",
        "wit/spin-mqtt@3.0.0",
    ],
    world: "spindle:host/databases",
    imports: { default: async | trappable },
    require_store_data_send: true,
    with: {
        "fermyon:spin/redis@2.0.0.connection": super::redis::RedisConnection,
        "spin:redis/redis@3.0.0.connection": super::redis::RedisConnection,
        "fermyon:spin/postgres@2.0.0.connection": super::postgres::PostgresConnection,
        "spin:postgres/postgres@3.0.0.connection": super::postgres::PostgresConnection,
        "spin:postgres/postgres@4.2.0.connection": super::postgres::PostgresConnection,
        "spin:postgres/postgres@4.2.0.connection-builder": super::postgres::PostgresBuilder,
        "fermyon:spin/mysql@2.0.0.connection": super::mysql::MysqlConnection,
        "spin:mysql/mysql@3.0.0.connection": super::mysql::MysqlConnection,
        "fermyon:spin/mqtt@2.0.0.connection": super::mqtt::MqttConnection,
        "spin:mqtt/mqtt@3.0.0.connection": super::mqtt::MqttConnection,
    },
});
