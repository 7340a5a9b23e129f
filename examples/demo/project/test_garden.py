from garden import plant


def test_kinds_take_turns():
    assert plant(3, ["carrot", "leek"]) == ["carrot", "leek", "carrot"]
