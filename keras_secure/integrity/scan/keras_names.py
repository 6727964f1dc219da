"""Classes and functions that Keras itself writes into a configuration, by the module it names.

Gathered from what Keras 3.10 to 3.15 export and can serialize, less what runs code or opens other
files (`Lambda`, `TFSMLayer`, `TorchModuleWrapper`, `JaxLayer`, `FlaxLayer`).
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


KERAS_CLASSES: dict[str, frozenset[str]] = {
    "keras": _names(
        """
        DTypePolicy FloatDTypePolicy Function Initializer InputSpec KerasTensor Layer Loss
        Metric Model Operation Optimizer Quantizer Regularizer Sequential Variable
"""
    ),
    "keras._legacy.layers": _names(
        """
        AlphaDropout RandomHeight RandomWidth ThresholdedReLU
"""
    ),
    "keras._legacy.losses": _names(
        """
        Reduction
"""
    ),
    "keras.constraints": _names(
        """
        Constraint MaxNorm MinMaxNorm NonNeg UnitNorm
"""
    ),
    "keras.distillation": _names(
        """
        DistillationLoss Distiller FeatureDistillation LogitsDistillation
"""
    ),
    "keras.dtype_policies": _names(
        """
        AWQDTypePolicy DTypePolicyMap GPTQDTypePolicy Int4DTypePolicy QuantizedDTypePolicy
        QuantizedFloat8DTypePolicy
"""
    ),
    "keras.initializers": _names(
        """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity Initializer
        LecunNormal LecunUniform Ones Orthogonal RandomNormal RandomUniform STFT
        TruncatedNormal VarianceScaling Zeros
"""
    ),
    "keras.layers": _names(
        """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
        AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
        AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D
        BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
        ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
        Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D
        Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization
        Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell
        GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity InputLayer
        IntegerLookup LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes
        MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp
        MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization
        RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
        RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
        RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
        RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
        ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN
        SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D
        SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
        TextVectorization TimeDistributed UnitNormalization UpSampling1D UpSampling2D
        UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
    ),
    "keras.losses": _names(
        """
        BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy
        CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge
        Circle CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError
        MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
        SparseCategoricalCrossentropy SquaredHinge Tversky
"""
    ),
    "keras.metrics": _names(
        """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy
        CategoricalCrossentropy CategoricalHinge ConcordanceCorrelation CosineSimilarity
        F1Score FBetaScore FalseNegatives FalsePositives Hinge IoU KLDivergence LogCoshError
        Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
        MeanSquaredError MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU
        PearsonCorrelation Poisson Precision PrecisionAtRecall R2Score Recall
        RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity
        SparseCategoricalAccuracy SparseCategoricalCrossentropy
        SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum
        TopKCategoricalAccuracy TrueNegatives TruePositives
"""
    ),
    "keras.models": _names(
        """
        Functional Model Sequential
"""
    ),
    "keras.optimizers": _names(
        """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer
        MultiOptimizer Muon Nadam OptimizerMap RMSprop SGD ScheduleFreeAdamW
"""
    ),
    "keras.optimizers.legacy": _names(
        """
        Adagrad
"""
    ),
    "keras.optimizers.schedules": _names(
        """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay
        LearningRateSchedule PiecewiseConstantDecay PolynomialDecay
"""
    ),
    "keras.quantizers": _names(
        """
        AWQConfig AbsMaxQuantizer Float8QuantizationConfig GPTQConfig Int4QuantizationConfig
        Int8QuantizationConfig QuantizationConfig
"""
    ),
    "keras.random": _names(
        """
        SeedGenerator
"""
    ),
    "keras.regularizers": _names(
        """
        L1 L1L2 L2 OrthogonalRegularizer
"""
    ),
    "keras.src.activations.activations": _names(
        """
        Mish ReLU
"""
    ),
    "keras.src.applications.convnext": _names(
        """
        LayerScale StochasticDepth
"""
    ),
    "keras.src.applications.inception_resnet_v2": _names(
        """
        CustomScaleLayer
"""
    ),
    "keras.src.backend.tensorflow.optimizer": _names(
        """
        TFOptimizer
"""
    ),
    "keras.src.layers.convolutional.base_conv": _names(
        """
        BaseConv
"""
    ),
    "keras.src.layers.convolutional.base_conv_transpose": _names(
        """
        BaseConvTranspose
"""
    ),
    "keras.src.layers.convolutional.base_depthwise_conv": _names(
        """
        BaseDepthwiseConv
"""
    ),
    "keras.src.layers.convolutional.base_separable_conv": _names(
        """
        BaseSeparableConv
"""
    ),
    "keras.src.layers.merging.base_merge": _names(
        """
        Merge
"""
    ),
    "keras.src.layers.pooling.base_adaptive_pooling": _names(
        """
        BaseAdaptiveAveragePooling BaseAdaptiveMaxPooling BaseAdaptivePooling
"""
    ),
    "keras.src.layers.pooling.base_global_pooling": _names(
        """
        BaseGlobalPooling
"""
    ),
    "keras.src.layers.pooling.base_pooling": _names(
        """
        BasePooling
"""
    ),
    "keras.src.layers.preprocessing.data_layer": _names(
        """
        DataLayer
"""
    ),
    "keras.src.layers.preprocessing.feature_space": _names(
        """
        Cross Feature TFDConcat TFDIdentity
"""
    ),
    "keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer": _names(
        """
        BaseImagePreprocessingLayer
"""
    ),
    "keras.src.layers.preprocessing.index_lookup": _names(
        """
        IndexLookup
"""
    ),
    "keras.src.layers.preprocessing.tf_data_layer": _names(
        """
        TFDataLayer
"""
    ),
    "keras.src.layers.regularization.spatial_dropout": _names(
        """
        BaseSpatialDropout
"""
    ),
    "keras.src.layers.rnn.conv_lstm": _names(
        """
        ConvLSTM ConvLSTMCell
"""
    ),
    "keras.src.losses.losses": _names(
        """
        LossFunctionWrapper
"""
    ),
    "keras.src.metrics.confusion_metrics": _names(
        """
        SensitivitySpecificityBase _ConfusionMatrixConditionCount
"""
    ),
    "keras.src.metrics.iou_metrics": _names(
        """
        _IoUBase
"""
    ),
    "keras.src.models.functional": _names(
        """
        Functional
"""
    ),
    "keras.src.ops.core": _names(
        """
        AssociativeScan Cast Cond ConvertToTensor ForiLoop Map SaturateCast Scan Scatter
        ScatterUpdate Slice SliceUpdate StopGradient Switch Unstack VectorizedMap WhileLoop
"""
    ),
    "keras.src.ops.einops": _names(
        """
        Rearrange
"""
    ),
    "keras.src.ops.image": _names(
        """
        AffineTransform CropImages ElasticTransform ExtractPatches ExtractPatches3D
        GaussianBlur HSVToRGB MapCoordinates PadImages PerspectiveTransform RGBToGrayscale
        RGBToHSV Resize SSIM ScaleAndTranslate SobelEdges
"""
    ),
    "keras.src.ops.linalg": _names(
        """
        Cholesky CholeskyInverse Det Eig Eigh Inv JVP Lstsq LuFactor MatrixRank Norm Pinv Qr
        SVD Solve SolveTriangular
"""
    ),
    "keras.src.ops.math": _names(
        """
        CDist Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logdet
        Logsumexp RFFT Rsqrt STFT SegmentMax SegmentMin SegmentProd SegmentReduction
        SegmentSum TopK ViewAsComplex ViewAsReal
"""
    ),
    "keras.src.ops.nn": _names(
        """
        AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm BinaryCrossentropy
        CTCDecode CTCLoss CategoricalCrossentropy Celu Conv ConvTranspose DepthToSpace
        DepthwiseConv DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu
        HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot
        Normalize OneHot PSNR Polar RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu
        SoftShrink Softmax Softplus Softsign SpaceToDepth SparseCategoricalCrossentropy
        SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink Threshold Unfold
"""
    ),
    "keras.src.ops.numpy": _names(
        """
        Abs Absolute Add All AllClose Amax Amin Angle Any Append Arange Arccos Arccosh
        Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array
        ArraySplit Average Bartlett Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift
        BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Blackman BroadcastTo Cbrt Ceil
        Clip Concatenate Conj Conjugate Copy Corrcoef Correlate Cos Cosh CountNonzero Cross
        Cumprod Cumsum Deg2rad Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan Dot
        Dsplit Dstack Einsum EmptyLike Equal Exp Exp2 ExpandDims Expm1 Fabs Flip Fliplr
        Flipud Floor FloorDivide Fmax Fmin Fmod Full FullLike Gcd Geomspace GetItem Greater
        GreaterEqual Hamming Hanning Heaviside Histogram Hsplit Hstack Hypot I0 Imag Inner
        IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal Kaiser Kron Lcm Ldexp
        LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 Logaddexp Logaddexp2
        LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Matmul Max Maximum Mean Median
        Meshgrid Min Minimum Mod Moveaxis Multiply NanToNum Nanargmax Nanargmin Nancumprod
        Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd
        Nansum Nanvar Ndim Negative Nextafter Nonzero NotEqual OnesLike Outer Pad Percentile
        Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape RightShift Roll
        Rot90 Round SearchSorted Select Sign Signbit Sin Sinc Sinh Size Slogdet Sort Split
        Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh
        Tensordot Tile Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unique
        UnravelIndex Vander Var Vdot View Vsplit Vstack Where ZerosLike
"""
    ),
    "keras.src.optimizers.base_optimizer": _names(
        """
        BaseOptimizer
"""
    ),
    "keras.src.quantizers.quantizers": _names(
        """
        FakeQuantWithMinMaxVars
"""
    ),
    "keras.src.trainers.compile_utils": _names(
        """
        CompileLoss CompileMetrics MetricsList
"""
    ),
    "keras.utils": _names(
        """
        FeatureSpace
"""
    ),
}
"""Names of classes by the module that stands beside them."""

KERAS_FUNCTIONS: frozenset[str] = _names(
    """
    binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy
    categorical_crossentropy categorical_focal_crossentropy
    categorical_generalized_cross_entropy categorical_hinge celu circle
    concordance_correlation cosine_similarity ctc dice elu exponential gelu glu
    hard_shrink hard_sigmoid hard_silu hard_tanh hinge huber kl_divergence leaky_relu
    linear log_cosh log_sigmoid log_softmax mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
    mish pearson_correlation poisson relu relu6 selu sigmoid silu soft_shrink softmax
    softplus softsign sparse_categorical_accuracy sparse_categorical_crossentropy
    sparse_plus sparse_sigmoid sparse_top_k_categorical_accuracy sparsemax squared_hinge
    squareplus tanh tanh_shrink threshold top_k_categorical_accuracy tversky
"""
)
"""Activations, losses, metrics and other functions that are named by a word alone."""

KERAS_OPERATIONS: frozenset[str] = _names(
    """
    abs absolute adaptive_average_pool adaptive_max_pool add affine_transform all
    allclose amax amin angle any append arange arccos arccosh arcsin arcsinh arctan
    arctan2 arctanh argmax argmin argpartition argsort array array_split average
    average_pool bartlett batch_normalization binary_crossentropy bincount bitwise_and
    bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
    bitwise_xor blackman broadcast_to cast categorical_crossentropy cbrt cdist ceil celu
    cholesky cholesky_inverse clip concatenate conj conjugate conv conv_transpose
    convert_to_numpy convert_to_tensor copy corrcoef correlate cos cosh count_nonzero
    crop_images cross ctc_decode ctc_loss cumprod cumsum deg2rad depth_to_space
    depthwise_conv det diag diagflat diagonal diff digitize divide divide_no_nan dot
    dot_product_attention dsplit dstack dtype eig eigh einsum elastic_transform elu
    empty empty_like equal erf erfc erfinv exp exp2 expand_dims expm1 extract_patches
    extract_patches_3d extract_sequences eye fabs fft fft2 flip fliplr flipud floor
    floor_divide fmax fmin fmod fold full full_like gaussian_blur gcd gelu geomspace glu
    greater greater_equal hamming hanning hard_shrink hard_sigmoid hard_silu hard_tanh
    heaviside histogram hsplit hstack hsv_to_rgb hypot i0 identity ifft2 imag in_top_k
    inner inv irfft is_tensor isclose isfinite isin isinf isnan isneginf isposinf isreal
    istft jvp kaiser kron layer_normalization lcm ldexp leaky_relu left_shift less
    less_equal linspace log log10 log1p log2 log_sigmoid log_softmax logaddexp
    logaddexp2 logdet logical_and logical_not logical_or logical_xor logspace logsumexp
    lstsq lu_factor map_coordinates matmul matrix_rank max max_pool maximum mean median
    meshgrid min minimum mod moments moveaxis multi_hot multiply nan_to_num nanargmax
    nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod
    nanquantile nanstd nansum nanvar ndim negative nextafter nonzero norm normalize
    not_equal one_hot ones ones_like outer pad pad_images percentile
    perspective_transform pinv polar power prod psnr ptp qr quantile rad2deg ravel real
    rearrange reciprocal relu relu6 repeat reshape resize rfft rgb_to_grayscale
    rgb_to_hsv right_shift rms_normalization roll rot90 round rsqrt saturate_cast
    scale_and_translate scatter scatter_update searchsorted segment_max segment_min
    segment_prod segment_sum select selu separable_conv shape sigmoid sign signbit silu
    sin sinc sinh size slice slice_update slogdet sobel_edges soft_shrink softmax
    softplus softsign solve solve_triangular sort space_to_depth
    sparse_categorical_crossentropy sparse_plus sparse_sigmoid sparsemax split sqrt
    square squareplus squeeze ssim stack std stft stop_gradient subtract sum svd
    swapaxes take take_along_axis tan tanh tanh_shrink tensordot threshold tile top_k
    trace transpose trapezoid tri tril triu true_divide trunc unfold unique
    unravel_index unstack vander var vdot vectorize view view_as_complex view_as_real
    vsplit vstack where zeros zeros_like
"""
)
"""Functions of `keras.ops` that call no other function."""

LEGACY_CLASSES: frozenset[str] = _names(
    """
    AbstractRNNCell AlphaDropout AvgPool1D AvgPool2D AvgPool3D BatchNormalizationV1
    BatchNormalizationV2 CollectionsMapping Convolution1D Convolution2D Convolution3D
    CuDNNGRU CuDNNLSTM Deconvolution2D DenseFeatures DynamicLossScale FixedLossScale
    Functional GRUV1 GRUV2 GlobalAvgPool1D GlobalAvgPool2D GlobalMaxPool1D
    GlobalMaxPool2D GlorotUniformV2 InputLayer InputSpec L1L2 LSTMV1 LSTMV2 ListWrapper
    LocallyConnected1D LocallyConnected2D LossFunctionWrapper LossScaleOptimizerV1
    LossScaleOptimizerV3 MaxNorm MaxPool1D MaxPool2D MaxPool3D MeanMetricWrapper
    MinMaxNorm Model ModelWrapper Network NonNeg One Ones PeepholeLSTMCell Policy
    PolicyV1 RandomFourierFeatures RandomHeight RandomUniformV1 RandomWidth
    SeparableConvolution1D SeparableConvolution2D Sequential SyncBatchNormalization
    TFOptimizer TensorShape ThresholdedReLU TypeSpec UnitNorm Zero Zeros _DictWrapper
    __tuple__ glorot_uniform l1 l2 ones zeros
"""
)
"""Further names that Keras 2 wrote into HDF5 files, where no module stands beside them."""
