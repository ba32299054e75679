//! Every figure against sorting whole matrices, on random rows with ties and several captions an image.
#![allow(clippy::unwrap_used)]

use altclip_eval::{
    Bootstrap, Classification, ConsistencyOptions, Direction, Error, Hit, K, Pairs,
    RetrievalOptions, RetrievalReport, Rows, Scorer, TokenRows, consistency, retrieval,
    retrieval_by_language, zeroshot, zeroshot_token_wise,
};
use proptest::prelude::*;

/// Embeddings whose few different numbers make many equal rows.
fn coarse(rows: usize, width: usize) -> impl Strategy<Value = Vec<f32>> {
    let row = prop::collection::vec(-1i8..=2, width).prop_map(|row| {
        let zero = row.iter().all(|&value| value == 0);
        row.into_iter().map(move |value| if zero { 1.0 } else { f32::from(value) })
    });
    prop::collection::vec(row, rows).prop_map(|rows| rows.into_iter().flatten().collect())
}

#[derive(Clone, Debug)]
struct Case {
    width: usize,
    images: Vec<f32>,
    texts: Vec<f32>,
    index: Vec<usize>,
    languages: Vec<&'static str>,
    threads: usize,
    blocks: (usize, usize),
}

fn case() -> impl Strategy<Value = Case> {
    (1usize..14, 1usize..40, 1usize..5).prop_flat_map(|(images, texts, width)| {
        (
            coarse(images, width),
            coarse(texts, width),
            prop::collection::vec(0..images, texts),
            prop::collection::vec(prop::sample::select(vec!["en", "zh", "ko"]), texts),
            1usize..4,
            (1usize..50, 1usize..20),
        )
            .prop_map(move |(images, texts, index, languages, threads, blocks)| Case {
                width,
                images,
                texts,
                index,
                languages,
                threads,
                blocks,
            })
    })
}

impl Case {
    fn scorer(&self) -> Scorer {
        Scorer::new(self.threads).with_blocks(self.blocks.0, self.blocks.1)
    }

    fn images(&self) -> Rows<'_> {
        Rows::new("images", &self.images, self.width).unwrap()
    }

    fn texts(&self) -> Rows<'_> {
        Rows::new("texts", &self.texts, self.width).unwrap()
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs::new(self.images(), self.texts(), &self.index).unwrap()
    }

    /// Recall by sorting, where each text has one image.
    fn oracle(&self, lower_first: bool) -> ([f64; 3], [f64; 3]) {
        let pairs: Vec<(usize, usize)> = self.index.iter().copied().enumerate().collect();
        oracle(&matrix(&self.texts(), &self.images()), &pairs, lower_first)
    }
}

/// Each row as an item of one token.
fn tokens(rows: Rows<'_>) -> TokenRows<'_> {
    let (lengths, padded) = (vec![1; rows.len()], vec![false; rows.len()]);
    TokenRows::new(rows, &lengths, padded).unwrap()
}

/// All similarities `[A, B]`, as plainly as they can be written.
fn matrix(a: &Rows<'_>, b: &Rows<'_>) -> Vec<Vec<f32>> {
    let rows = |rows: &Rows<'_>| -> Vec<Vec<f32>> {
        (0..rows.len()).map(|row| rows.normalized(row).collect()).collect()
    };
    let (a, b) = (rows(a), rows(b));
    let dot =
        |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0, |sum, (&a, &b)| f32::mul_add(a, b, sum));
    a.iter().map(|a| b.iter().map(|b| dot(a, b)).collect()).collect()
}

/// Columns of a row, the best first; of equal ones the lower first, or the higher.
fn order(row: &[f32], lower_first: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    if !lower_first {
        order.reverse();
    }
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order
}

/// Recall of images and of texts by sorting the scores `[texts, images]`.
fn oracle(
    scores: &[Vec<f32>],
    pairs: &[(usize, usize)],
    lower_first: bool,
) -> ([f64; 3], [f64; 3]) {
    let recall = |scores: &[Vec<f32>], fits: &dyn Fn(usize, usize) -> bool| {
        let asked = |query: &usize| (0..scores[*query].len()).any(|row| fits(*query, row));
        let queries: Vec<usize> = (0..scores.len()).filter(asked).collect();
        K.map(|k| {
            let hit = |query: usize| {
                order(&scores[query], lower_first).into_iter().take(k).any(|row| fits(query, row))
            };
            let hits = queries.iter().filter(|&&query| hit(query)).count();
            hits as f64 / queries.len() as f64
        })
    };
    let turned: Vec<Vec<f32>> =
        (0..scores[0].len()).map(|column| scores.iter().map(|row| row[column]).collect()).collect();
    let image = recall(scores, &|text, image| pairs.contains(&(text, image)));
    (image, recall(&turned, &|image, text| pairs.contains(&(text, image))))
}

fn is_oracles(report: &RetrievalReport, (image, text): ([f64; 3], [f64; 3])) -> bool {
    let mean = image.iter().chain(&text).sum::<f64>() / 6.0;
    report.image_retrieval_recall == image
        && report.text_retrieval_recall == text
        && (report.mean_recall - mean).abs() < 1e-12
}

fn quick() -> RetrievalOptions {
    RetrievalOptions { bootstrap: Bootstrap { resamples: 10, seed: 1 }, worst: 3 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn recall_is_that_of_sorting(case in case()) {
        let pairs = case.pairs();
        let report = retrieval(&case.scorer(), &pairs, &quick());
        prop_assert!(is_oracles(&report, case.oracle(true)), "{report:?}");
        let other = case.oracle(false);
        prop_assert!(
            report.ties.image_retrieval + report.ties.text_retrieval > 0 || is_oracles(&report, other),
            "no ties, and yet their order matters"
        );
        let intervals = report.intervals.as_ref().unwrap();
        for [low, high] in intervals.image_retrieval_recall.iter().chain(&intervals.text_retrieval_recall) {
            prop_assert!(0.0 <= *low && low <= high && *high <= 1.0);
        }
    }

    #[test]
    fn texts_of_several_images_are_those_of_sorting(
        case in case(),
        more in prop::collection::vec((0usize..40, 0usize..14), 0..30),
    ) {
        let (texts, images) = (case.texts().len(), case.images().len());
        let more = more.into_iter().map(|(text, image)| (text % texts, image % images));
        let pairs: Vec<(usize, usize)> = case.index.iter().copied().enumerate().chain(more).collect();
        let set = Pairs::many(case.images(), case.texts(), pairs.iter().copied()).unwrap();
        let report = retrieval(&case.scorer(), &set, &quick());
        let scores = matrix(&case.texts(), &case.images());
        let expected = oracle(&scores, &pairs, true);
        prop_assert!(is_oracles(&report, expected), "{report:?}");
        let several = pairs.iter().any(|a| pairs.iter().any(|b| a.0 == b.0 && a.1 != b.1));
        prop_assert_eq!(report.image_retrieval_mean_recall.is_some(), several);
        if let Some(mean) = report.image_retrieval_mean_recall {
            prop_assert!((mean - expected.0.iter().sum::<f64>() / 3.0).abs() < 1e-12);
            let [low, high] = report.intervals.unwrap().image_retrieval_mean_recall.unwrap();
            prop_assert!(low <= high && (0.0..=1.0).contains(&low) && high <= 1.0);
        }
        // Whole lists are the same ranking.
        let listed = |scores: &[Vec<f32>]| -> Vec<Vec<Hit>> {
            let hit = |row: &Vec<f32>| {
                order(row, true).into_iter().map(|n| Hit { row: n, score: row[n] }).collect()
            };
            scores.iter().map(hit).collect()
        };
        let turned: Vec<Vec<f32>> =
            (0..images).map(|n| scores.iter().map(|row| row[n]).collect()).collect();
        let lists = Pairs::listed(listed(&scores), listed(&turned), pairs).unwrap();
        prop_assert_eq!(lists.ranks(&case.scorer()), set.ranks(&case.scorer()));
    }

    #[test]
    fn one_token_an_item_is_the_cosine(case in case()) {
        let pairs = || case.index.iter().copied().enumerate();
        let set = Pairs::token_wise(tokens(case.images()), tokens(case.texts()), pairs()).unwrap();
        let report = retrieval(&case.scorer(), &set, &quick());
        prop_assert_eq!(report, retrieval(&case.scorer(), &case.pairs(), &quick()));
    }

    #[test]
    fn blocks_and_threads_change_nothing(case in case()) {
        let pairs = case.pairs();
        let plain = retrieval(&Scorer::new(1), &pairs, &quick());
        prop_assert_eq!(plain, retrieval(&case.scorer(), &pairs, &quick()));
    }

    #[test]
    fn a_language_is_evaluated_alone(case in case()) {
        let pairs = case.pairs();
        let report =
            retrieval_by_language(&case.scorer(), &pairs, &case.languages, &quick()).unwrap();
        let mut texts = 0;
        for (language, part) in &report.languages {
            let ids: Vec<usize> = (0..case.index.len())
                .filter(|&text| case.languages[text] == language).collect();
            let rows: Vec<f32> = ids
                .iter().flat_map(|&text| &case.texts[text * case.width..][..case.width])
                .copied().collect();
            let index: Vec<usize> = ids.iter().map(|&text| case.index[text]).collect();
            let alone = Case { texts: rows, index, ..case.clone() };
            prop_assert!(is_oracles(part, alone.oracle(true)));
            texts += part.texts;
            for worst in &part.worst {
                let own = worst.direction == Direction::TextRetrieval || ids.contains(&worst.query);
                prop_assert!(own, "a text of another language");
            }
        }
        prop_assert_eq!(texts, case.index.len());
        let all = retrieval(&case.scorer(), &pairs, &quick());
        prop_assert_eq!(all, RetrievalReport { languages: Default::default(), ..report });
    }

    #[test]
    fn top_k_is_a_stable_sort(case in case(), k in 1usize..12) {
        let hits = case.scorer().top_k(&case.texts(), &case.images(), k).unwrap();
        for (hits, scores) in hits.iter().zip(matrix(&case.texts(), &case.images())) {
            let rows: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
            let mut expected = order(&scores, true);
            expected.truncate(k);
            prop_assert_eq!(rows, expected);
            prop_assert!(hits.iter().all(|hit| hit.score == scores[hit.row]));
        }
    }

    #[test]
    fn zeroshot_is_that_of_sorting(case in case()) {
        // Texts are the samples, images the classes.
        let found = zeroshot(&case.scorer(), &case.texts(), &case.images(), &case.index).unwrap();
        let scores = matrix(&case.texts(), &case.images());
        let (image, _) = case.oracle(true);
        let report = found.report().unwrap();
        prop_assert_eq!(report.acc1, image[0]);
        let classes = case.images().len();
        prop_assert_eq!(report.acc5, (classes >= 5).then_some(image[1]));
        let mut confusion = vec![0; classes * classes];
        for (row, &label) in scores.iter().zip(&case.index) {
            confusion[label * classes + order(row, true)[0]] += 1;
        }
        prop_assert_eq!(found.confusion_matrix(), confusion.clone());
        let recalls: Vec<f64> = (0..classes).filter_map(|class| {
            let row = &confusion[class * classes..][..classes];
            let all: u64 = row.iter().sum();
            (all > 0).then(|| row[class] as f64 / all as f64)
        }).collect();
        let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
        prop_assert!((report.mean_per_class_recall - mean).abs() < 1e-12);
        // The same from scores.
        let mut added = Classification::new(classes).unwrap();
        for (row, label) in scores.iter().zip(&case.index) {
            added.add(row, &[*label]).unwrap();
        }
        prop_assert_eq!(found, added);
    }

    #[test]
    fn a_query_agrees_with_itself(case in case()) {
        let options = ConsistencyOptions { bootstrap: Bootstrap { resamples: 5, seed: 0 }, ..Default::default() };
        let texts = case.texts();
        let report = consistency(&case.scorer(), (&texts, &texts), &case.images(), &options).unwrap();
        prop_assert_eq!(report.overlap, [1.0; 3]);
        prop_assert!((report.rank_biased_overlap - 1.0).abs() < 1e-9);
        prop_assert!((report.cosine - 1.0).abs() < 1e-6);
    }
}

#[test]
fn another_order_of_ties_would_be_seen() {
    let same = [1.0; 8];
    let rows = || Rows::new("rows", &same, 2).unwrap();
    let pairs = Pairs::new(rows(), rows(), &[0, 1, 2, 3]).unwrap();
    let report = retrieval(&Scorer::new(1), &pairs, &quick());
    // Everything is one point: chance, not success.
    assert_eq!(report.image_retrieval_recall, [0.25, 1.0, 1.0]);
    assert_eq!((report.ties.image_retrieval, report.ties.text_retrieval), (4, 4));
    let pairs = Pairs::new(rows(), rows(), &[0, 0, 0, 1]).unwrap();
    let report = retrieval(&Scorer::new(1), &pairs, &quick());
    assert_eq!(report.image_retrieval_recall[0], 0.75);
    let scores = vec![vec![1.0; 4]; 4];
    assert!(!is_oracles(&report, oracle(&scores, &[(0, 0), (1, 0), (2, 0), (3, 1)], false)));
}

#[test]
fn token_by_token_templates_vote_with_their_probabilities() {
    fn rows(values: &[f32]) -> Rows<'_> {
        Rows::new("rows", values, 2).unwrap()
    }
    let images = [1.0f32, 0.0, 0.6, 0.8, 0.0, 1.0];
    // The first template is for the first class, the second for the second one and surer of it.
    let templates = [[1.0f32, 0.1, 0.8, 0.6], [0.0, 1.0, 1.0, 0.0]];
    let templates = templates.each_ref().map(|texts| tokens(rows(texts)));
    let plain = |image: usize, scale: f32| {
        let mut mean = [0.0f32; 2];
        for template in [[[1.0, 0.1], [0.8, 0.6]], [[0.0, 1.0], [1.0, 0.0]]] {
            let cosine = |text: [f32; 2]| {
                let dot = images[2 * image] * text[0] + images[2 * image + 1] * text[1];
                (scale * dot / (text[0].powi(2) + text[1].powi(2)).sqrt()).exp()
            };
            let e = template.map(cosine);
            mean.iter_mut().zip(e).for_each(|(m, x)| *m += x / (e[0] + e[1]));
        }
        usize::from(mean[1] > mean[0])
    };
    for scale in [1.0, 20.0] {
        let labels: Vec<usize> = (0..3).map(|image| plain(image, scale)).collect();
        let scorer = Scorer::new(2).with_blocks(2, 1);
        let found =
            zeroshot_token_wise(&scorer, &tokens(rows(&images)), &templates, scale, &labels);
        assert_eq!(found.unwrap().report().unwrap().acc1, 1.0, "{labels:?}");
    }
    let none = zeroshot_token_wise(&Scorer::new(1), &tokens(rows(&images)), &[], 1.0, &[0; 3]);
    assert!(matches!(none, Err(Error::Empty { .. })));
}

#[test]
fn wide_rows_of_real_numbers() {
    // More columns than the kernels sum at once, rows that repeat, and captions among many blocks.
    let number = |x: usize| {
        let x = (x as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x >> 33) % 2_001) as f32 / 1_000.0 - 1.0
    };
    let (width, n_images, n_texts) = (700, 37, 150);
    let images: Vec<f32> = (0..n_images * width).map(|at| number(at % (30 * width))).collect();
    let index: Vec<usize> = (0..n_texts).map(|text| text * 7 % n_images).collect();
    let text = |at: usize| {
        let (row, column) = (at / width, at % width);
        images[index[row] * width + column] + 8.0 * number(at % (120 * width) + 999_999)
    };
    let texts: Vec<f32> = (0..n_texts * width).map(text).collect();
    let rows = |values| Rows::new("rows", values, width).unwrap();
    let pairs = Pairs::new(rows(&images), rows(&texts), &index).unwrap();
    let of_texts: Vec<(usize, usize)> = index.iter().copied().enumerate().collect();
    let expected = oracle(&matrix(&rows(&texts), &rows(&images)), &of_texts, true);
    assert!(expected.0[0] > 0.05 && expected.0[0] < 0.95, "{expected:?}");
    for (threads, queries, candidates) in [(1, 1024, 4096), (2, 64, 10), (3, 7, 33)] {
        let scorer = Scorer::new(threads).with_blocks(queries, candidates);
        let report = retrieval(&scorer, &pairs, &quick());
        assert!(is_oracles(&report, expected), "{report:?}");
    }
}

#[test]
fn the_report_begins_with_clip_benchmarks_names() {
    let rows = |values| Rows::new("rows", values, 2).unwrap();
    let pairs =
        Pairs::new(rows(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), rows(&[2.0, 0.1, 0.0, 3.0]), &[0, 1]);
    let options = RetrievalOptions { bootstrap: Bootstrap { resamples: 0, seed: 0 }, worst: 0 };
    let report = retrieval(&Scorer::new(1), &pairs.unwrap(), &options);
    assert_eq!(report.images_without_caption, 1);
    let text = serde_json::to_string(&report).unwrap();
    let start = concat!(
        r#"{"image_retrieval_recall@1":1.0,"image_retrieval_recall@5":1.0,"#,
        r#""image_retrieval_recall@10":1.0,"text_retrieval_recall@1":1.0,"#,
        r#""text_retrieval_recall@5":1.0,"text_retrieval_recall@10":1.0,"mean_recall":1.0,"#
    );
    assert!(text.starts_with(start), "{text}");
    assert!(!text.contains("intervals") && !text.contains("worst"));
}

#[test]
fn the_worst_queries_are_named_with_what_they_found() {
    let rows = |values| Rows::new("rows", values, 2).unwrap();
    let images = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    // The second text belongs to the first image and is its opposite.
    let pairs = Pairs::new(rows(&images), rows(&[1.0, 0.0, -1.0, 0.5]), &[0, 0]).unwrap();
    let report = retrieval(&Scorer::new(1), &pairs, &quick());
    let [worst] = &report.worst[..] else { panic!("{:?}", report.worst) };
    assert_eq!((worst.direction, worst.query, worst.rank), (Direction::ImageRetrieval, 1, 3));
    let found: Vec<usize> = worst.found.iter().map(|hit| hit.row).collect();
    assert_eq!(found, [1, 2, 0]);
}

#[test]
fn impossible_inputs_are_errors() {
    let new = |values: &[f32], width| Rows::new("texts", values, width).map(|_| ());
    assert!(matches!(new(&[], 2), Err(Error::Empty { .. })));
    assert!(matches!(new(&[1.0], 0), Err(Error::Empty { .. })));
    assert!(matches!(new(&[1.0; 3], 2), Err(Error::Ragged { numbers: 3, width: 2, .. })));
    assert!(matches!(
        new(&[1.0, 1.0, 1.0, f32::NAN], 2),
        Err(Error::NonFinite { row: 1, column: 1, .. })
    ));
    assert!(matches!(new(&[1.0, 1.0, 0.0, -0.0], 2), Err(Error::Zero { row: 1, .. })));
    // The smallest and the largest rows have a direction.
    assert_eq!(new(&[f32::MIN_POSITIVE / 1e6, 0.0, f32::MAX, f32::MAX], 2), Ok(()));

    let values = [1.0; 6];
    let rows = |width| Rows::new("rows", &values, width).unwrap();
    let pairs = |index: &[usize]| Pairs::new(rows(2), rows(2), index).map(|_| ());
    assert!(matches!(pairs(&[0, 1]), Err(Error::Count { found: 2, expected: 3, .. })));
    assert!(matches!(
        pairs(&[0, 3, 9]),
        Err(Error::OutOfRange { item: 1, found: 3, limit: 3, .. })
    ));
    assert!(matches!(
        Pairs::new(rows(2), rows(3), &[0, 0]),
        Err(Error::Width { found: 3, expected: 2, .. })
    ));
    let good = Pairs::new(rows(2), rows(2), &[0, 1, 2]).unwrap();
    let scorer = Scorer::new(1);
    let languages = retrieval_by_language(&scorer, &good, &["en"], &quick());
    assert!(matches!(languages, Err(Error::Count { found: 1, expected: 3, .. })));
    assert!(matches!(rows(2).select(&[]), Err(Error::Empty { .. })));
    assert!(matches!(rows(2).select(&[3]), Err(Error::OutOfRange { .. })));
    let labels = zeroshot(&scorer, &rows(2), &rows(2), &[0, 1, 3]);
    assert!(matches!(labels, Err(Error::OutOfRange { item: 2, found: 3, limit: 3, .. })));
    let mut classes = Classification::new(2).unwrap();
    assert!(classes.add(&[1.0, f32::INFINITY], &[0]).is_err());
    assert!(classes.add(&[1.0], &[0]).is_err() && classes.add(&[1.0, 0.0], &[2]).is_err());
    assert!(matches!(classes.report(), Err(Error::Empty { .. })));
    assert!(matches!(Classification::new(0), Err(Error::Empty { .. })));
}
