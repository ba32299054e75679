//! Controls that must fail: what the tests beside would not notice if it were not for the rule that they
//! check.

use crate::faults::Faulty;
use altclip_server::Engine as _;
use std::time::Duration;

#[test]
fn without_the_check_the_stub_would_send_what_is_not_finite() {
    let engine = Faulty::new(Duration::ZERO);
    let ids = engine.tokenize("nan").unwrap().ids;
    let rows = engine.encode_ids(&[&ids]).unwrap();
    assert!(rows.iter().any(|x| x.is_nan()));
    // And this is what a client would read.
    assert!(serde_json::to_string(&rows).unwrap().contains("null"));
}

#[test]
fn without_the_fence_poison_would_take_its_batch_with_it() {
    let engine = Faulty::new(Duration::ZERO);
    let (good, bad) = (engine.tokenize("good").unwrap().ids, engine.tokenize("panic").unwrap().ids);
    let both = std::panic::AssertUnwindSafe(|| engine.encode_ids(&[&good, &bad]));
    assert!(std::panic::catch_unwind(both).is_err());
}
