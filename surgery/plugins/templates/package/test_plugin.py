import surgery_ember

from surgery.testing import check_plugin


def test_it_keeps_its_contract():
    check_plugin(surgery_ember)
