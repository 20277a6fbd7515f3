//! The configuration: one flat struct of plain values. `params` declares which directive fills which field.

use std::collections::BTreeMap;
use std::sync::Arc;

use command::Names;

use crate::commands;
use crate::evict::Policy;
use crate::oom_score::OomScoreAdj;
use crate::process_title;
use crate::shutdown::Shutdown;
use crate::tls::TlsConfig;

/// Limits of one client class, `client-output-buffer-limit`: bytes and seconds, 0 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

impl OutputLimit {
    /// Redis's default for replicas.
    pub const REPLICA: OutputLimit =
        OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 };
}

/// One `save <seconds> <changes>` point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// `enable-debug-command` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protected {
    #[default]
    No,
    Local,
    Yes,
}

/// `propagation-error-behavior`: what a replica does over a command of its primary that fails here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationError {
    Ignore,
    Panic,
    PanicOnReplicas,
    /// Fetches the data set anew, if it is a command that is not known here.
    Resync,
}

/// `repl-diskless-load`: where a snapshot that arrives is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DisklessLoad {
    /// To a file, which is loaded when it is complete.
    #[default]
    Disabled,
    /// Straight into the tables if they are empty, else as `Disabled`.
    OnEmptyDb,
    /// Straight into new tables; the old ones still serve if they are of the same history.
    SwapDb,
    /// Straight into the tables after emptying them.
    FlushBeforeLoad,
    /// Straight into new tables while the old ones still serve, of whatever history they are.
    Serving,
}

/// Every setting that the engine or the server reads. Units are in the names.
#[derive(Debug, Clone)]
pub struct Config {
    // network
    pub bind: Vec<String>,
    pub port: u16,
    pub tls: TlsConfig,
    pub protected_mode: bool,
    pub tcp_backlog: i64,
    pub unixsocket: String,
    pub unixsocketperm: u32,
    /// The address that a connection to the primary comes from; empty is any.
    pub bind_source_addr: String,
    /// `SO_MARK` of the listening sockets; 0 is none.
    pub socket_mark_id: u32,
    pub timeout_s: i64,
    pub tcp_keepalive_s: i64,
    pub maxclients: i64,
    pub proto_max_bulk_len: i64,
    /// Bytes; 0 is no limit. Beyond it keys are evicted as the policy says, or commands that may grow memory refused.
    pub maxmemory: i64,
    pub maxmemory_policy: Policy,
    /// Keys that are looked at for each that is evicted.
    pub maxmemory_samples: i64,
    /// 0 to 100: how long evicting may hold commands up.
    pub maxmemory_eviction_tenacity: i64,
    /// Bytes of all clients' buffers; negative: a percentage of `maxmemory`; 0: no limit.
    pub maxmemory_clients: i64,
    pub lfu_log_factor: i64,
    pub lfu_decay_time_min: i64,
    pub client_query_buffer_limit: i64,
    pub output_limit_normal: OutputLimit,
    pub output_limit_replica: OutputLimit,
    pub output_limit_pubsub: OutputLimit,
    // general
    pub daemonize: bool,
    pub always_show_logo: bool,
    pub pidfile: String,
    pub loglevel: usize,
    pub logfile: String,
    pub databases: i64,
    pub dir: String,
    pub hz: i64,
    pub requirepass: String,
    pub enable_debug_command: Protected,
    pub enable_protected_configs: Protected,
    pub notify_keyspace_events: String,
    pub active_expire_enabled: bool,
    /// By which clients call the commands: `rename-command`.
    pub names: Arc<Names>,
    /// `DEBUG SET-SKIP-CHECKSUM-VALIDATION`.
    pub skip_checksum_validation: bool,
    // snapshots
    pub save: Vec<SavePoint>,
    pub dbfilename: String,
    pub rdbcompression: bool,
    pub rdbchecksum: bool,
    pub stop_writes_on_bgsave_error: bool,
    pub rdb_key_save_delay_us: i64,
    pub key_load_delay_us: i64,
    pub loading_process_events_interval_bytes: i64,
    pub sanitize_dump_payload: usize,
    pub rdb_del_sync_files: bool,
    // replication
    pub replicaof: Option<(String, u16)>,
    pub masterauth: String,
    pub masteruser: String,
    pub replica_serve_stale_data: bool,
    pub replica_read_only: bool,
    pub repl_diskless_sync: bool,
    pub repl_diskless_sync_delay_s: i64,
    pub repl_diskless_sync_max_replicas: i64,
    pub repl_diskless_load: DisklessLoad,
    /// Snapshots on a connection of their own, as Valkey has them.
    pub dual_channel_replication: bool,
    /// The same as Redis has them.
    pub repl_rdb_channel: bool,
    /// How much of the stream may wait for such a snapshot; 0 is what `client-output-buffer-limit` says of replicas.
    pub replica_full_sync_buffer_limit: i64,
    /// `repl-full-sync-max`: how many replicas may be sent a snapshot at a time; 0 is no limit.
    pub repl_full_sync_max: i64,
    /// `repl-full-sync-rate`: bytes of snapshots a second, to all replicas together; 0 is no limit.
    pub repl_full_sync_rate: i64,
    pub repl_ping_replica_period_s: i64,
    /// 0 is never, -1 a tenth of the period of pings.
    pub repl_heartbeat_period_ms: i64,
    /// The newest RDB version that a replica is taken to read which tells nothing of itself.
    pub repl_assume_rdb_version: i64,
    /// How long after a command that a replica does not know it is refused.
    pub repl_refusal_s: i64,
    /// A replica keeps its data when its primary comes back without any.
    pub replica_guard_empty_primary: bool,
    pub repl_timeout_s: i64,
    pub repl_disable_tcp_nodelay: bool,
    pub repl_backlog_size: i64,
    /// `repl-backlog-seconds`; 0 asks for no time.
    pub repl_backlog_seconds: i64,
    /// `repl-backlog-disk-size`; 0 is no disk.
    pub repl_backlog_disk_size: i64,
    /// `repl-lag-disk-size`; 0 is no disk.
    pub repl_lag_disk_size: i64,
    pub repl_backlog_ttl_s: i64,
    pub replica_priority: i64,
    pub replica_announced: bool,
    pub replica_announce_ip: String,
    pub replica_announce_port: i64,
    pub replica_lazy_flush: bool,
    /// A replica leaves evicting to its primary.
    pub replica_ignore_maxmemory: bool,
    pub min_replicas_to_write: i64,
    pub min_replicas_max_lag_s: i64,
    // lazy freeing
    pub lazyfree_lazy_eviction: bool,
    pub lazyfree_lazy_expire: bool,
    pub lazyfree_lazy_server_del: bool,
    pub lazyfree_lazy_user_del: bool,
    pub lazyfree_lazy_user_flush: bool,
    // encodings
    pub encodings: keyspace::EncodingLimits,
    /// A sparse HyperLogLog that would be longer becomes dense.
    pub hll_sparse_max_bytes: usize,
    // slow log and latency
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: i64,
    pub latency_tracking: bool,
    /// 0 is off.
    pub latency_monitor_threshold_ms: i64,
    pub latency_percentiles: Vec<f64>,
    pub shutdown_timeout_s: i64,
    pub shutdown_on_sigint: Shutdown,
    pub shutdown_on_sigterm: Shutdown,
    // the process
    pub syslog_enabled: bool,
    pub syslog_ident: String,
    /// A facility's number in RFC 5424.
    pub syslog_facility: i32,
    pub crash_log_enabled: bool,
    pub use_exit_on_panic: bool,
    pub replica_ignore_disk_write_errors: bool,
    /// 0: go on when a command of the primary fails; otherwise a replica that only reads ends.
    pub propagation_error_behavior: PropagationError,
    /// Lists of processors, as taskset(1) takes them; empty is all.
    pub server_cpulist: String,
    pub bio_cpulist: String,
    pub bgsave_cpulist: String,
    pub set_proc_title: bool,
    pub proc_title_template: String,
    pub oom_score_adj: OomScoreAdj,
    /// Of a primary, of a replica, and of a forked child, which there is none of.
    pub oom_score_adj_values: [i32; 3],
    /// 0 is off.
    pub watchdog_period_ms: i64,
    /// A `save` line of the configuration file was seen: the default points are gone, further lines add to it.
    pub save_from_file: bool,
    /// Values of directives that have no mechanism here, as they were given: see `params`.
    pub kept: BTreeMap<&'static str, String>,
}

impl Config {
    /// The port that it is known by: the plain one, if there is one.
    pub fn main_port(&self) -> u16 {
        if self.port != 0 { self.port } else { self.tls.port }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bind: vec!["*".into(), "-::*".into()],
            port: 6379,
            tls: TlsConfig::default(),
            protected_mode: true,
            tcp_backlog: 511,
            unixsocket: String::new(),
            unixsocketperm: 0,
            bind_source_addr: String::new(),
            socket_mark_id: 0,
            timeout_s: 0,
            tcp_keepalive_s: 300,
            maxclients: 10_000,
            proto_max_bulk_len: 512 << 20,
            maxmemory: 0,
            maxmemory_policy: Policy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            maxmemory_clients: 0,
            lfu_log_factor: 10,
            lfu_decay_time_min: 1,
            client_query_buffer_limit: 1 << 30,
            output_limit_normal: OutputLimit::default(),
            output_limit_replica: OutputLimit::REPLICA,
            output_limit_pubsub: OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
            daemonize: false,
            always_show_logo: false,
            pidfile: String::new(),
            loglevel: 2,
            logfile: String::new(),
            databases: 16,
            dir: String::from("."),
            hz: 10,
            requirepass: String::new(),
            enable_debug_command: Protected::No,
            enable_protected_configs: Protected::No,
            notify_keyspace_events: String::new(),
            active_expire_enabled: true,
            names: Arc::clone(commands::registry().names()),
            skip_checksum_validation: false,
            save: [(3600, 1), (300, 100), (60, 10_000)]
                .map(|(seconds, changes)| SavePoint { seconds, changes })
                .to_vec(),
            dbfilename: String::from("dump.rdb"),
            rdbcompression: true,
            rdbchecksum: true,
            stop_writes_on_bgsave_error: true,
            rdb_key_save_delay_us: 0,
            key_load_delay_us: 0,
            loading_process_events_interval_bytes: 2 << 20,
            sanitize_dump_payload: 0,
            rdb_del_sync_files: false,
            replicaof: None,
            masterauth: String::new(),
            masteruser: String::new(),
            replica_serve_stale_data: true,
            replica_read_only: true,
            repl_diskless_sync: true,
            repl_diskless_sync_delay_s: 0,
            repl_diskless_sync_max_replicas: 0,
            repl_diskless_load: DisklessLoad::Serving,
            dual_channel_replication: false,
            repl_rdb_channel: false,
            replica_full_sync_buffer_limit: 0,
            repl_full_sync_max: 0,
            repl_full_sync_rate: 0,
            repl_ping_replica_period_s: 10,
            repl_heartbeat_period_ms: -1,
            repl_assume_rdb_version: 10,
            repl_refusal_s: 60,
            replica_guard_empty_primary: true,
            repl_timeout_s: 60,
            repl_disable_tcp_nodelay: false,
            repl_backlog_size: 1 << 20,
            repl_backlog_seconds: 0,
            repl_backlog_disk_size: 0,
            repl_lag_disk_size: 1 << 30,
            repl_backlog_ttl_s: 3600,
            replica_priority: 100,
            replica_announced: true,
            replica_announce_ip: String::new(),
            replica_announce_port: 0,
            replica_lazy_flush: false,
            replica_ignore_maxmemory: true,
            min_replicas_to_write: 0,
            min_replicas_max_lag_s: 10,
            lazyfree_lazy_eviction: false,
            lazyfree_lazy_expire: false,
            lazyfree_lazy_server_del: false,
            lazyfree_lazy_user_del: false,
            lazyfree_lazy_user_flush: false,
            encodings: keyspace::EncodingLimits::default(),
            hll_sparse_max_bytes: 3000,
            slowlog_log_slower_than_us: 10_000,
            slowlog_max_len: 128,
            latency_tracking: true,
            latency_monitor_threshold_ms: 0,
            latency_percentiles: vec![50.0, 99.0, 99.9],
            shutdown_timeout_s: 10,
            shutdown_on_sigint: Shutdown::default(),
            shutdown_on_sigterm: Shutdown::default(),
            syslog_enabled: false,
            syslog_ident: String::from("redis"),
            syslog_facility: 16,
            crash_log_enabled: true,
            use_exit_on_panic: false,
            replica_ignore_disk_write_errors: false,
            propagation_error_behavior: PropagationError::Resync,
            server_cpulist: String::new(),
            bio_cpulist: String::new(),
            bgsave_cpulist: String::new(),
            set_proc_title: true,
            proc_title_template: process_title::DEFAULT_TEMPLATE.to_owned(),
            oom_score_adj: OomScoreAdj::No,
            oom_score_adj_values: [0, 200, 800],
            watchdog_period_ms: 0,
            save_from_file: false,
            kept: BTreeMap::new(),
        }
    }
}
