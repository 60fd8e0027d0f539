//! Stores that speak S3.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Attribute, ClientOptions, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RetryConfig,
};
use ops_core::Secret;
use url::Url;

use crate::aws_profile::profile;
use crate::error::{Error, ErrorKind};

type Result<T, E = object_store::Error> = std::result::Result<T, E>;

/// No call of a store takes longer; the vault's own patience is shorter.
const REQUEST: Duration = Duration::from_mins(10);
const CONNECT: Duration = Duration::from_secs(10);

/// A bucket of a store that speaks S3. Every object is sent with its SHA-256, which the store
/// checks; calls are made again by the vault's own patience, and by nothing below it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct S3Options {
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    storage_class: Option<String>,
    credentials: Option<(String, Secret)>,
}

impl S3Options {
    /// This bucket, at AWS, with what the environment says (see [`open`](Self::open)).
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            storage_class: None,
            credentials: None,
        }
    }

    /// From `s3://bucket/prefix`, with `endpoint`, `region` and `storage_class` as query parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is none.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        // Never the text itself: it may hold a key.
        let refuse = |why: String| {
            Error::new(ErrorKind::InvalidInput, format!("that is no address of an S3 store: {why}")).remedy(
                "use `s3://bucket/prefix`, and `?endpoint=`, `&region=`, `&storage_class=` as needed",
            )
        };
        let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "an S3 URL must not hold a secret")
                .remedy("give the keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
        }
        let bucket = parsed.host_str().unwrap_or_default();
        if parsed.scheme() != "s3" || bucket.is_empty() {
            return Err(refuse("it has no bucket".to_owned()));
        }
        let mut options = Self::new(bucket).prefix(parsed.path().trim_matches('/'));
        for (name, value) in parsed.query_pairs() {
            options = match &*name {
                "endpoint" => options.endpoint(value),
                "region" => options.region(value),
                "storage_class" => options.storage_class(value),
                other => return Err(refuse(format!("`{other}` is unknown"))),
            };
        }
        Ok(options)
    }

    /// Below this path of the bucket. Default: at its top.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Another store than AWS: `https://minio.example:9000`. Without TLS only if it says `http://`.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The region. Default: AWS_REGION, or `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The class of chunks, such as `STANDARD_IA`. What else there is is small and read often, and
    /// has the bucket's own. Default: the bucket's own.
    pub fn storage_class(mut self, class: impl Into<String>) -> Self {
        self.storage_class = Some(class.into());
        self
    }

    /// The access key and its secret. Default: those of the environment.
    pub fn credentials(mut self, key: impl Into<String>, secret: Secret) -> Self {
        self.credentials = Some((key.into(), secret));
        self
    }

    /// Opens it. What was not given is taken from the environment, as AWS's tools name it:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, a web identity, the keys of `AWS_PROFILE` in `~/.aws/credentials` or
    /// `AWS_SHARED_CREDENTIALS_FILE`, a container's role, or the instance's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if something of it has no meaning, or the profile no keys;
    /// [`ErrorKind::Io`] if its file cannot be read. Nothing is asked yet.
    pub fn open(self) -> Result<Arc<dyn ObjectStore>, Error> {
        let http = self.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let client = ClientOptions::new()
            .with_timeout(REQUEST)
            .with_connect_timeout(CONNECT)
            .with_allow_http(http);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_checksum_algorithm(Checksum::SHA256)
            // One object at a time, which every server knows, and what is refused is told as such.
            .with_disable_bulk_delete(true)
            // Attempts that nobody counts would outlast every deadline.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_client_options(client);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some((key, secret)) = &self.credentials {
            builder = builder.with_access_key_id(key).with_secret_access_key(secret.expose());
        } else if let Some(profile) = profile(|name| std::env::var(name).ok())? {
            builder = builder
                .with_access_key_id(profile.key)
                .with_secret_access_key(profile.secret.expose());
            if let Some(token) = profile.token {
                builder = builder.with_token(token.expose());
            }
            if let (None, Some(region)) = (&self.region, profile.region) {
                builder = builder.with_region(region);
            }
        }
        let store = builder.build().map_err(|e| {
            let message = format!("bucket `{}` cannot be opened", self.bucket);
            Error::new(ErrorKind::InvalidInput, message).caused_by(e)
        })?;
        let inner = PrefixStore::new(store, self.prefix);
        Ok(Arc::new(Classed { inner, class: self.storage_class }))
    }
}

/// Gives chunks their storage class.
#[derive(Debug)]
struct Classed<T> {
    inner: T,
    class: Option<String>,
}

impl<T: fmt::Display> fmt::Display for Classed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for Classed<T> {
    async fn put_opts(
        &self,
        at: &Path,
        bytes: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if let Some(class) = self.class.clone().filter(|_| at.as_ref().starts_with("chunks/")) {
            options.attributes.insert(Attribute::StorageClass, class.into());
        }
        self.inner.put_opts(at, bytes, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url =
            "s3://bucket/a/b?endpoint=http://localhost:9000&region=eu&storage_class=STANDARD_IA";
        let options = S3Options::from_url(url).unwrap();
        assert_eq!((&*options.bucket, &*options.prefix), ("bucket", "a/b"));
        assert_eq!(options.endpoint.as_deref(), Some("http://localhost:9000"));
        assert_eq!(options.region.as_deref(), Some("eu"));
        assert_eq!(options.storage_class.as_deref(), Some("STANDARD_IA"));
        for (url, why) in [
            ("s3://", "no bucket"),
            ("http://bucket/a", "no bucket"),
            ("s3://bucket?enpoint=x", "`enpoint` is unknown"),
            ("s3://key:secret@bucket/a", "must not hold a secret"),
        ] {
            let error = S3Options::from_url(url).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("key:secret"), "{error}");
        }
    }
}
