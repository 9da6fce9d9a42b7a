//! Limits on how much of an artifact from a registry is read.

/// The most bytes of a manifest.
pub(crate) const MANIFEST: u64 = 1024 * 1024;
/// The most bytes of a configuration.
pub(crate) const CONFIG: u64 = 64 * 1024;
/// The most layers.
pub(crate) const LAYERS: usize = 64;
/// The most bytes of all layers as fetched.
pub(crate) const COMPRESSED: u64 = 16 * 1024 * 1024;
/// The most bytes of all unpacked files.
pub(crate) const DECOMPRESSED: u64 = 32 * 1024 * 1024;
/// The most files and folders.
pub(crate) const ENTRIES: usize = 5000;
/// The most bytes of a file's path.
pub(crate) const PATH: usize = 512;
/// The most bytes of one file of manifests. The API server accepts less for one object.
pub(crate) const FILE: usize = 4 * 1024 * 1024;
/// The most values (texts, numbers, maps, lists) of all files. Each takes about a hundred bytes of memory, however short it is written.
pub(crate) const VALUES: usize = 500_000;
