//! Limits on how much of an artifact from a registry is read.

/// The most bytes of a manifest.
pub const MANIFEST: u64 = 1024 * 1024;
/// The most bytes of a configuration.
pub const CONFIG: u64 = 64 * 1024;
/// The most layers.
pub const LAYERS: usize = 64;
/// The most bytes of all layers as fetched.
pub const COMPRESSED: u64 = 16 * 1024 * 1024;
/// The most bytes of all unpacked files.
pub const DECOMPRESSED: u64 = 32 * 1024 * 1024;
/// The most files and folders.
pub const ENTRIES: usize = 5000;
/// The most bytes of a file's path.
pub const PATH: usize = 512;
/// The most bytes of one file of manifests. The API server accepts less for one object.
pub const FILE: usize = 4 * 1024 * 1024;
/// The most values (texts, numbers, maps, lists) of all files. Each takes about a hundred bytes of memory, however short it is written.
pub const VALUES: usize = 500_000;
