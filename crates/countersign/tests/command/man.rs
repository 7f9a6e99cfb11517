//! The manual pages.

use std::collections::BTreeSet;
use std::fs;

use crate::folder::Folder;
use crate::help::every_subcommand;

#[test]
fn every_subcommand_has_a_manual_page_with_its_words_and_its_examples() {
    let folder = Folder::new();
    folder.run(&["man", "pages"]).expect(0);
    let pages: BTreeSet<String> =
        fs::read_dir(folder.path("pages")).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let expected = every_subcommand().into_iter().map(|typed| format!("countersign-{}.1", typed.replace(' ', "-")));
    assert_eq!(pages, expected.chain(["countersign.1".to_owned()]).collect());

    let page = folder.read("pages/countersign-calculate.1");
    for part in
        ["countersign\\-calculate \\- Compute X seconds", "<TARGET>... <X> <MSG>", "\\fB<MSG>\\fR", "\\-\\-detach"]
    {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    let examples = page.split(".nf").nth(1).unwrap();
    assert!(examples.contains("\n  countersign calculate worker\\-1 2.5 \"all done\"\n"), "{page}");
    assert!(folder.read("pages/countersign.1").contains("countersign\\-credential(1)"));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_an_error() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").unwrap();
    let ran = folder.run(&["man", "file"]).expect(1);
    assert!(ran.stderr.contains("file cannot be written to"), "{ran:?}");
}
