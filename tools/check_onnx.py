"""See :mod:`kddense.apps.check_onnx`."""

from kddense.apps.check_onnx import main

if __name__ == '__main__':
    main()
