import surgery_ember

from surgery.testing import check_plugin


def test_it_keeps_every_promise():
    check_plugin(surgery_ember)
