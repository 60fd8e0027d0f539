//! The engine of the tests.

pub fn address() -> String {
    std::env::var("OPS_TEST_DOCKER_HOST")
        .expect("OPS_TEST_DOCKER_HOST is missing: run the tests by scripts/with-services")
}
