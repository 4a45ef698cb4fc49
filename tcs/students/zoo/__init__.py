"""Small-image students as timm models. `import tcs.students.zoo` makes their names known to timm, which is all that
``timm.create_model("cifar_resnet20", num_classes=C)`` and the weights of a run need; nothing else is imported from here.
"""

from tcs.students.zoo.cifar import register

register()
